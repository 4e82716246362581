"""`config.errors`: every problem is told, each with what to do."""

from __future__ import annotations

from mtls_ambassador.config.errors import ConfigurationError, Problem
from mtls_ambassador.errors import Error


def test_all_problems_are_told() -> None:
    error = ConfigurationError(
        (Problem("a (x.yaml)", "is odd", "Make it even."), Problem("b", "is not set", "Set it."))
    )
    assert isinstance(error, Error)
    assert str(error) == "a (x.yaml): is odd\n  Make it even.\nb: is not set\n  Set it."
    assert [problem.subject for problem in error.problems] == ["a (x.yaml)", "b"]

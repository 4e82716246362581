"""`errors`: one line that says what happened, one that says what to do."""

from __future__ import annotations

import importlib
import pkgutil

import mtls_ambassador
from mtls_ambassador.errors import Error


def test_the_remedy_follows_on_its_own_line() -> None:
    error = Error("the port is taken", "Choose another.")
    assert str(error) == "the port is taken\n  Choose another."
    assert (error.what, error.remedy) == ("the port is taken", "Choose another.")


def test_there_may_be_no_remedy() -> None:
    assert str(Error("it is over")) == "it is over"


def test_every_error_of_ours_derives_from_it() -> None:
    for found in pkgutil.walk_packages(mtls_ambassador.__path__, "mtls_ambassador."):
        if found.name.endswith(("__main__", ".migrations.env")):  # run, not imported
            continue
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            if (
                isinstance(value, type)
                and issubclass(value, Exception)
                and value.__module__ == found.name
                and not name.startswith("_")
            ):
                # Pure parsers raise ValueErrors, which whoever called them puts into words.
                assert issubclass(value, Error | ValueError), f"{found.name}.{name}"

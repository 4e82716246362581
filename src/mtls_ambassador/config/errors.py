"""Errors of the configuration: all problems found, each with its key, source and remedy."""

from __future__ import annotations

from dataclasses import dataclass

from mtls_ambassador.errors import Error


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the configuration."""

    subject: str
    """The key and where its value came from, or the file."""
    what: str
    """What was wrong."""
    remedy: str
    """What would be right."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.what}\n  {self.remedy}"


class ConfigurationError(Error):
    """The configuration cannot be used; retrying without changing it is of no use."""

    exit_status = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Take at least one problem; the text lists them all."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

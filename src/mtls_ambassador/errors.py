"""The one base of every error this product raises on purpose."""

from __future__ import annotations

from typing import ClassVar


class Error(Exception):
    """Something a person has to know: what happened, and what to do next.

    Raised (as a subclass) for everything that is unsafe to ignore. The text never holds a secret, since it is
    printed and logged.
    """

    exit_status: ClassVar[int] = 1
    """Of a program that ends with it: 1 for a run that failed, 2 where trying again without a change is of no use."""

    def __init__(self, what: str, remedy: str = "") -> None:
        """Take `what` happened, one line that names the file, field or peer, and the `remedy`, one line."""
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  {self.remedy}" if self.remedy else self.what

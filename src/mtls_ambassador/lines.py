"""Lists with one device a line, as CSV or as JSON: a line that is spoilt spoils no other. Pure."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from mtls_ambassador.errors import Error

LONGEST = 65536
"""Characters of a line."""


class LineError(Error):
    """A line that cannot be read."""


def csv_values(line: str) -> Sequence[str]:
    """The values of a line of CSV (RFC 4180); none of a blank one.

    A quote that is left open ends with its line: else it would swallow the lines after it, up to the next quote. So a
    value cannot hold a line's end.

    Raises:
        LineError: its quotes do not fit, or it is too long.
    """
    if not line.strip():
        return ()
    _require_length(line)
    try:
        (values,) = csv.reader([line.rstrip("\r\n")], strict=True)
    except (csv.Error, ValueError) as error:
        raise LineError(
            "its quotes do not fit", 'Put a value with commas in "...", with each quote in it doubled.'
        ) from error
    return values


def json_text(line: str) -> str:
    """The object on a line of JSON Lines, or of one list with an object on each line; empty where there is none.

    Raises:
        LineError: it is too long.
    """
    _require_length(line)
    return line.strip().removeprefix("[").removesuffix("]").strip().removesuffix(",").rstrip()


def _require_length(line: str) -> None:
    if len(line) > LONGEST:
        raise LineError(f"it is longer than {LONGEST} characters", "Write one device on each line.")

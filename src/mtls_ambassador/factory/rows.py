"""Where the devices of a batch come from: a list in a file, a number, a folder of requests. Read as a stream."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtls_ambassador.factory.errors import BatchError
from mtls_ambassador.factory.template import Fields
from mtls_ambassador.lines import LineError, csv_values

JSON_LINES = (".jsonl", ".ndjson")
REQUESTS = (".csr", ".req", ".p10", ".pem", ".der")
"""Endings of the files in a folder of requests."""


@dataclass(frozen=True, slots=True)
class Row:
    """A device that is asked for.

    Attributes:
        line: Its line in the file, or its number where there is none; from 1.
        where: The same for people: `devices.csv, line 17`.
        fields: Column to value.
        request: Its request (CSR), where it made its key itself.
    """

    line: int
    where: str
    fields: Fields
    request: Path | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that cannot be used.

    Attributes:
        where: Where it stands.
        what: Why.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


Rows = Iterator[Row | Problem]


def counted(count: int) -> Rows:
    """Rows with one column, `n`: 1, 2 ... `count`."""
    for number in range(1, count + 1):
        yield Row(number, f"number {number}", {"n": number})


def listed(path: Path) -> Rows:
    """The rows of a CSV file with a header, or, by its ending `.jsonl` or `.ndjson`, of one with an object a line.

    Raises:
        BatchError: the file cannot be read, or its header.
    """
    try:
        # A byte that is not UTF-8 is that row's problem, and no reason to stop.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if path.suffix.lower() in JSON_LINES:
                yield from json_lines(file, path.name)
            else:
                yield from comma_separated(file, path.name)
    except OSError as error:
        raise BatchError(f"cannot read {path}: {error.strerror}", "See that it exists and may be read.") from error


def json_lines(lines: Iterable[str], name: str) -> Rows:
    """Rows from JSON Lines; empty lines are passed over."""
    for number, line in enumerate(lines, 1):
        where = f"{name}, line {number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        yield _row(number, where, fields) if isinstance(fields, dict) else Problem(where, "is not a JSON object")


def comma_separated(lines: Iterable[str], name: str) -> Rows:
    """Rows from CSV (RFC 4180) with a header, one a line; empty lines are passed over.

    Raises:
        BatchError: there is no header, or it has a column twice or without a name.
    """
    numbered = enumerate(lines, 1)
    header = _header(numbered, name)
    for number, line in numbered:
        where = f"{name}, line {number}"
        try:
            values = csv_values(line)
        except LineError as error:
            yield Problem(where, error.what)
            continue
        if len(values) == len(header):
            yield _row(number, where, dict(zip(header, values, strict=True)))
        elif values:
            yield Problem(where, f"has {len(values)} values for {len(header)} columns")


def requests(directory: Path) -> Rows:
    """A row for each request in a folder, with the column `file`: its name without the ending.

    Raises:
        BatchError: the folder cannot be read.
    """
    try:
        with os.scandir(directory) as found:
            files = (Path(each.path) for each in found if each.name.lower().endswith(REQUESTS))
            for number, path in enumerate(files, 1):
                yield _row(number, str(path), {"file": path.stem}, path)
    except OSError as error:
        raise BatchError(f"cannot read {directory}: {error.strerror}", "Name a folder that may be read.") from error


def number_of_lines(path: Path) -> int:
    """How many lines a file has, at most; for the progress.

    Raises:
        BatchError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) + 1
    except OSError as error:
        raise BatchError(f"cannot read {path}: {error.strerror}", "See that it exists and may be read.") from error


def number_of_requests(directory: Path) -> int:
    """How many requests a folder has; for the progress.

    Raises:
        BatchError: the folder cannot be read.
    """
    return sum(1 for _ in requests(directory))


def _header(numbered: Iterable[tuple[int, str]], name: str) -> Sequence[str]:
    with contextlib.suppress(LineError):
        columns = next((values for _, line in numbered if (values := csv_values(line))), ())
        header = [column.strip() for column in columns]
        if header and all(header) and len(set(header)) == len(header):
            return header
    raise BatchError(f"the first line of {name} does not name the columns, each once", "Write one such as: serial,mac")


def _row(line: int, where: str, fields: Fields, request: Path | None = None) -> Row | Problem:
    for column, value in fields.items():
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            return Problem(where, f"{column} is not UTF-8")
    return Row(line, where, fields, request)

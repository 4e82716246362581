"""The lines of a manifest, as CSV or JSON Lines, and the identities in them. Pure."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.identity import normal_form, parse_identity
from mtls_ambassador.admission.strict_json import AmbiguousJsonError, parse_object
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.schema import digest
from mtls_ambassador.lines import LineError, csv_values, json_text

IDENTITY = "identity"
"""The column that every manifest has."""

_NAME = re.compile(r"[^\s={}\"]+")


class ManifestError(Error):
    """A manifest, or a line of it, that cannot be used."""

    def __init__(self, what: str, remedy: str = "", line: int | None = None) -> None:
        super().__init__(what if line is None else f"line {line}: {what}", remedy)
        self.line = line


Row: TypeAlias = "tuple[int, Mapping[str, Any] | ManifestError]"
"""A line's number, from 1, and its fields."""


class Claim(Protocol):
    """What a line says: that a certificate or key belongs to an identity."""

    @property
    def identity(self) -> str:
        """In its normal form."""

    @property
    def kind(self) -> str:
        """What the other is known by, for people."""

    @property
    def value(self) -> str:
        """That of this one."""


_Claim = TypeVar("_Claim", bound=Claim)


@dataclass(frozen=True, slots=True)
class Entry(Generic[_Claim]):
    """One line of a manifest."""

    line: int
    claim: _Claim


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of which a manifest must have one, beside the identity.

    Attributes:
        names: In lower case.
        text: The same for people.
        example: A header.
    """

    names: frozenset[str]
    text: str
    example: str


def read_rows(lines: Iterable[str], columns: Columns) -> Iterator[Row]:
    """Read a manifest, line by line, and go on after one that cannot be read.

    Args:
        lines: Its text; CSV with a header, or JSON Lines if the first character is `{`. JSON may be one list, too, with
            an object on each line.
        columns: What the header of a CSV must have.

    Raises:
        ManifestError: the header has it not, or there is nothing.
    """
    numbered = ((number, text) for number, text in enumerate(lines, start=1))
    first = next(((number, text) for number, text in numbered if text.lstrip("\ufeff").strip()), None)
    if first is None:
        raise ManifestError("the manifest is empty", "Give it a header and one line a device.")
    number, text = first[0], first[1].lstrip("\ufeff")
    if text.lstrip().startswith(("{", "[")):
        yield from _json_rows(itertools.chain([(number, text)], numbered))
    else:
        yield from _csv_rows(number, text, numbered, columns)


def distinct(
    rows: Iterable[Row], read: Callable[[Mapping[str, Any]], _Claim]
) -> Iterator[Entry[_Claim] | ManifestError]:
    """Each claim once; an identity or a certificate that comes twice, with another beside it, is a fault.

    Args:
        rows: From `read_rows`.
        read: Reads one; may raise ManifestError without a line.
    """
    identities, certificates = dict[str, tuple[int, str]](), dict[str, tuple[int, str]]()
    for line, row in rows:
        if isinstance(row, ManifestError):
            yield row
            continue
        try:
            claim = read(row)
        except ManifestError as error:
            yield ManifestError(error.what, error.remedy, line)
            continue
        whose, whom = digest(claim.identity), digest(claim.kind, claim.value)
        if (before := identities.setdefault(whose, (line, whom)))[1] != whom:
            yield ManifestError(
                f"its identity is on line {before[0]} with another certificate", "Keep the one that is right.", line
            )
        elif (before := certificates.setdefault(whom, (line, whose)))[1] != whose:
            yield ManifestError(
                f"its {claim.kind} is on line {before[0]} with another identity",
                "A certificate is for one device: keep the one that is right.",
                line,
            )
        elif identities[whose][0] == line:
            yield Entry(line, claim)


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's fields by lower-case name, without empty ones.

    Raises:
        ManifestError: one is no text.
    """
    given = {str(name).strip().lower(): value for name, value in row.items() if value}
    if not all(_is_text(value) for value in given.values()):
        raise ManifestError("it holds what is no text", "Save the manifest as UTF-8.")
    return given


def read_identity(given: Mapping[str, Any]) -> str:
    """The normal form of the identity among a row's fields: JSON, or `name=value`.

    Raises:
        ManifestError: there is none, or it is neither.
    """
    value = given.get(IDENTITY)
    if value is None:
        raise ManifestError("it has no identity", 'Write JSON such as {"mac":"52:54:00:12:34:56"}, or mac=VALUE.')
    if isinstance(value, Mapping):
        if not value:
            raise ManifestError("its identity is empty")
        value = json.dumps(value)
    text = str(value).strip()
    if text.startswith("{"):
        try:
            return parse_identity(text).normal_form
        except Refused as error:
            raise ManifestError(
                f"its identity cannot be read: {error.detail.removeprefix('id_data: ')}",
                "Write it as the edge's log does.",
            ) from None
    name, equals, content = text.partition("=")
    if not equals or not _NAME.fullmatch(name) or not content:
        raise ManifestError("its identity is neither JSON nor name=value", "Write mac=52:54:00:12:34:56, or JSON.")
    return normal_form({name: content})


def _json_rows(numbered: Iterable[tuple[int, str]]) -> Iterator[Row]:
    for number, line in numbered:
        try:
            if text := json_text(line):
                yield number, parse_object(text)
        except LineError as error:
            yield number, ManifestError(error.what, error.remedy, number)
        except AmbiguousJsonError as error:
            yield number, ManifestError(f"it is no JSON object: {error}", "Write one object on each line.", number)


def _csv_rows(number: int, header: str, rest: Iterator[tuple[int, str]], columns: Columns) -> Iterator[Row]:
    names = _names(number, header)
    if IDENTITY not in names or not set(names) & columns.names:
        raise ManifestError(
            f"the manifest has no header that names {IDENTITY}, and one of {columns.text}",
            f"Begin it with a line such as: {columns.example}",
            number,
        )
    for line, text in rest:
        try:
            values = csv_values(text)
        except LineError as error:
            yield line, ManifestError(error.what, error.remedy, line)
            continue
        if len(values) == len(names):
            yield line, dict(zip(names, values, strict=True))
        elif values:
            yield (
                line,
                ManifestError(
                    f"it has {len(values)} fields, and the header {len(names)}",
                    'Put a value with commas in "...", with each quote in it doubled.',
                    line,
                ),
            )


def _names(number: int, header: str) -> Sequence[str]:
    try:
        return [name.strip().lower() for name in csv_values(header)]
    except LineError as error:
        raise ManifestError(error.what, error.remedy, number) from error


def _is_text(value: object) -> bool:
    """Whether every database takes it."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in str(value)

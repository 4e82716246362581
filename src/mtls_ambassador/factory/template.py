"""Templates such as `{serial}.devices.example.com`: a row's columns put into a name. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from mtls_ambassador.factory.errors import BatchError, RowError

Fields = Mapping[str, object]
"""A row: column name to value."""

_FORMATTER = string.Formatter()


@dataclass(frozen=True, slots=True)
class Template:
    """A text with columns in braces.

    Attributes:
        text: As it was given.
        parts: Literal text, then a column and its format, or None after the last literal.
    """

    text: str
    parts: tuple[tuple[str, tuple[str, str] | None], ...]

    def fill(self, fields: Fields) -> str:
        """The text for one row.

        Raises:
            RowError: the row lacks a column or its value, or the value does not take the format.
        """
        return "".join(
            literal if column is None else literal + _formatted(fields, *column) for literal, column in self.parts
        )


def parse(text: str) -> Template:
    """Read a template: Python's format strings, with plain column names only.

    Raises:
        BatchError: a brace is not closed, or a column has an index, an attribute or a conversion.
    """
    remedy = "Write columns as {serial}, numbers as {n:06}, a brace itself as {{."
    try:
        found = list(_FORMATTER.parse(text))
    except ValueError as error:
        raise BatchError(f"the template {text!r} cannot be read: {error}", remedy) from error
    parts: list[tuple[str, tuple[str, str] | None]] = []
    for literal, column, specification, conversion in found:
        if column is not None and (
            not column or conversion or set(column) & set(".[]") or "{" in (specification or "")
        ):
            raise BatchError(f"the template {text!r} has {{{column}}}, which is no plain column", remedy)
        parts.append((literal, None if column is None else (column.strip(), specification or "")))
    return Template(text, tuple(parts))


_DIGITS = re.compile(r"[0-9]+")
_NUMBERS_FORMAT = re.compile(r"[-+ ]?#?0(?![<>^])|.*[bdoxX]\Z", re.DOTALL)
"""Filled with zeros from the left, or of a type that only numbers have."""


def _formatted(fields: Fields, column: str, specification: str) -> str:
    value = fields.get(column)
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        columns = ", ".join(str(name) for name in fields)
        raise RowError(f"has no {column}" if column in fields else f"has no column {column}, only {columns}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(f"{column} is neither text nor a whole number")
    try:
        if isinstance(value, str) and _NUMBERS_FORMAT.match(specification):
            value = _number(column, value)
        return format(value, specification)
    except ValueError as error:
        raise RowError(f"{column} {value!r} does not take the format {specification!r}: {error}") from error


def _number(column: str, text: str) -> int:
    """A value that a list has as text, where a number is meant: Python would fill text with zeros at its end."""
    if not _DIGITS.fullmatch(text):
        raise RowError(f"{column} {text!r} is no whole number; to fill text with zeros: {{{column}:0>6}}")
    return int(text)

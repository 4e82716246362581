"""JSON as Go's encoding/json reads it: the parts where it and Python's json disagree. Pure.

The Mender Server is written in Go. Its decoder matches field names without regard to case, lets the last of several
fields win, merges maps, ignores null and unknown fields and, when it reads from a stream, whatever comes after the
first value. Source: the documentation of Go's encoding/json, Mender deviceauth.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from mtls_ambassador.errors import Error


class DecodeError(Error):
    """The text is not JSON, or not of the type that is asked for."""


@dataclass(frozen=True)
class Number:
    """A number as it was written: Go converts it only where something asks for its value."""

    text: str

    def value(self) -> float:
        """The nearest double.

        Raises:
            DecodeError: it is out of the range of a double.
        """
        value = float(self.text)
        if math.isinf(value):
            raise DecodeError(f"json: cannot unmarshal number {self.text} into Go value of type float64")
        return value


@dataclass(frozen=True)
class Object:
    """A JSON object with its members in the order of the text, duplicates included."""

    members: tuple[tuple[str, Json], ...] = ()

    def named(self, name: str) -> list[Json]:
        """The values of all members that Go stores into a field called `name`, in their order."""
        return [value for key, value in self.members if key == name or _fold(key) == _fold(name)]

    def string(self, name: str) -> str:
        """The string field `name`; "" if absent.

        Raises:
            DecodeError: one of its values is neither a string nor null.
        """
        found = ""
        for value in self.named(name):
            if isinstance(value, str):
                found = value
            elif value is not None:
                _wrong_type(value, name, "string")
        return found

    def boolean(self, name: str) -> bool:
        """The bool field `name`; False if absent.

        Raises:
            DecodeError: one of its values is neither a bool nor null.
        """
        found = False
        for value in self.named(name):
            if isinstance(value, bool):
                found = value
            elif value is not None:
                _wrong_type(value, name, "bool")
        return found

    def integer(self, name: str) -> int:
        """The int field `name`; 0 if absent.

        Raises:
            DecodeError: one of its values is neither an integer of 64 bits, written as such, nor null.
        """
        found = 0
        for value in self.named(name):
            if isinstance(value, Number) and re.fullmatch(r"-?[0-9]{1,19}", value.text):
                found = int(value.text)
            elif value is not None:
                _wrong_type(value, name, "int64")
        return found

    def mapping(self, name: str) -> dict[str, object] | None:
        """The field `name` of type map; duplicates are merged, None if absent or null.

        Raises:
            DecodeError: one of its values is neither an object nor null.
        """
        found: dict[str, object] | None = None
        for value in self.named(name):
            if value is None:
                found = None
            elif isinstance(value, Object):
                found = (found or {}) | as_map(value)
            else:
                _wrong_type(value, name, "map[string]interface {}")
        return found

    def anything(self, name: str) -> Json:
        """The field `name` of type interface{}; None if absent."""
        values = self.named(name)
        return values[-1] if values else None


Json: TypeAlias = "bool | str | Number | list[Json] | Object | None"

_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode(data: bytes, *, stream: bool = False) -> Json:
    """The JSON value that `data` holds.

    Args:
        data: UTF-8; what is not becomes U+FFFD, as in Go.
        stream: Read like Go's json.Decoder: what follows the first value is ignored.

    Raises:
        DecodeError: it is not JSON.
    """
    text = data.decode("utf-8", "go-json")
    start = _after_space(text, 0)
    if start == len(text):
        raise DecodeError("EOF" if stream else "unexpected end of JSON input")
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            raise DecodeError("unexpected EOF" if stream else "unexpected end of JSON input") from None
        raise DecodeError(f"invalid character {text[error.pos]!r} at offset {error.pos}") from None
    except RecursionError:
        raise DecodeError("exceeded max depth") from None
    rest = _after_space(text, end)
    if not stream and rest != len(text):
        raise DecodeError(f"invalid character {text[rest]!r} after top-level value")
    return _whole_strings(value)


def as_struct(value: Json) -> Object:
    """`value` as Go decodes it into a struct: null leaves the struct empty.

    Raises:
        DecodeError: it is neither an object nor null.
    """
    if value is None:
        return Object()
    if not isinstance(value, Object):
        raise DecodeError(f"json: cannot unmarshal {_kind(value)} into Go value of type struct")
    return value


def as_map(value: Object) -> dict[str, object]:
    """`value` as Go's map[string]interface{}: the last of equal keys wins.

    Raises:
        DecodeError: a number is out of range.
    """
    return {key: as_value(member) for key, member in value.members}


def as_value(value: Json) -> object:
    """`value` as Go's interface{}: None, bool, float, str, list, dict.

    Raises:
        DecodeError: a number is out of range.
    """
    if isinstance(value, Number):
        return value.value()
    if isinstance(value, Object):
        return as_map(value)
    if isinstance(value, list):
        return [as_value(element) for element in value]
    return value


def _whole_strings(value: Json) -> Json:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)  # half of a pair, written as \ud800
    if isinstance(value, list):
        return [_whole_strings(element) for element in value]
    if isinstance(value, Object):
        return Object(tuple((_SURROGATE.sub("\ufffd", key), _whole_strings(member)) for key, member in value.members))
    return value


def _after_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _fold(name: str) -> str:
    # Go folds single characters (so that U+212A is a k), never one character into two
    return "".join(folded if len(folded := char.casefold()) == 1 else char for char in name)


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", Number: "number", list: "array", Object: "object"}.get(type(value), "null")


def _wrong_type(value: Json, name: str, wanted: str) -> NoReturn:
    raise DecodeError(f"json: cannot unmarshal {_kind(value)} into Go struct field {name} of type {wanted}")


def _refuse_constant(name: str) -> NoReturn:
    raise DecodeError(f"invalid character {name[0]!r} looking for beginning of value")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end  # one for each byte, where Python makes one of several


codecs.register_error("go-json", _replace)
_DECODER = json.JSONDecoder(
    object_pairs_hook=lambda pairs: Object(tuple(pairs)),
    parse_float=Number,
    parse_int=Number,
    parse_constant=_refuse_constant,
)

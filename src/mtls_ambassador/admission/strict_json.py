"""JSON as every parser reads it, or not at all. Pure.

Mender's server is written in Go, whose decoder takes the last of duplicate names, matches names without regard to case,
and replaces broken text. Whatever two parsers could read in two ways is refused here, so that the edge and Mender never
see two identities in one request.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_DEEPEST = 32
"""Levels of objects and arrays; identity data of real devices has one."""


class AmbiguousJsonError(ValueError):
    """The text is no JSON, or JSON that parsers may read differently."""


def parse_object(text: str) -> dict[str, Any]:
    """The one JSON object that `text` is.

    Numbers come out as floats, as Go holds them; white space around the object is allowed.

    Raises:
        AmbiguousJsonError: no JSON, not an object, text after it, a name twice in one object, a number beyond a
            double, NaN, Infinity, a lone surrogate, or nested too deep.
    """
    try:
        content = _DECODER.decode(text)
    except RecursionError:
        raise AmbiguousJsonError("it is nested too deep") from None
    except AmbiguousJsonError:
        raise
    except ValueError as error:
        # json's own text quotes nothing of the document but positions.
        raise AmbiguousJsonError(str(error)) from None
    if not isinstance(content, dict):
        raise AmbiguousJsonError("it is not a JSON object")
    _require_shallow(content)
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise AmbiguousJsonError("it holds a lone surrogate") from None
    return content


def _require_shallow(content: object) -> None:
    level = [content]
    for _ in range(_DEEPEST):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise AmbiguousJsonError("it is nested too deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise AmbiguousJsonError("a name stands twice in one object")
    return content


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise AmbiguousJsonError("a number is beyond what a double holds")
    return number


def _no_constant(name: str) -> NoReturn:
    raise AmbiguousJsonError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_int=_number, parse_constant=_no_constant, strict=True
)

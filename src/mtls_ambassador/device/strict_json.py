"""JSON as people break it: the place of the fault, and what editors leave behind, without quoting what stands there."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from mtls_ambassador.device.errors import ConfigurationFileError

_MOST_NAMED = 5

# A string is passed over whole, so that the slashes in a URL are no comment.
_COMMENT = r"(?://|\#)[^\n]*|/\*.*?(?:\*/|\Z)"
_ODD = re.compile(
    rf'"(?:\\.|[^"\\\n])*"|(?P<comment>{_COMMENT})|(?P<comma>,)(?=(?:\s|{_COMMENT})*[}}\]])',
    re.DOTALL,
)


def read_object(text: str, name: str) -> dict[str, Any]:
    """The JSON object in a text.

    Args:
        text: The text; a byte order mark before it is passed over.
        name: The file, as errors name it.

    Raises:
        ConfigurationFileError: it is not JSON, not an object, or a name stands twice in one object. The text itself,
            which may hold a token, is not repeated.
    """
    text = text.removeprefix("\ufeff")
    try:
        value = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        odd = list(itertools.islice(_oddities(text), _MOST_NAMED))
        found = f"; there is {', '.join(odd)}" if odd else ""
        remedy = (
            "JSON has neither comments nor a comma after the last entry: take them out." if odd else "Mend it there."
        )
        raise ConfigurationFileError(
            f"{name} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}{found}", remedy
        ) from None
    except _Refused as error:
        raise ConfigurationFileError(f"{name}: {error}", "Mend it there.") from None
    except RecursionError:
        raise ConfigurationFileError(f"{name} is nested too deeply", "Keep it flat.") from None
    if not isinstance(value, dict):
        raise ConfigurationFileError(
            f"{name} is not a JSON object", 'Begin it with { and write "ServerURL": ... into it.'
        )
    return value


def _oddities(text: str) -> Iterator[str]:
    for match in _ODD.finditer(text):
        if match["comment"] or match["comma"]:
            what = "a comment" if match["comment"] else "a trailing comma"
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            yield f"{what} at line {line}, column {column}"


class _Refused(ValueError):
    """Something that the JSON parser would let pass."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise _Refused(f"{name} stands twice in one object")
    return dict(pairs)


def _refuse_constant(_: str) -> object:
    raise _Refused("NaN and Infinity are not JSON")

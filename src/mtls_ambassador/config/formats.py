"""The formats of a configuration file: text to data, and errors that never quote the text, which may hold a secret.

The parsers of YAML and HCL are imported when such a file is read: they take 6 MB, and an edge that is configured by its
environment needs neither.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import yaml


class FileSyntaxError(ValueError):
    """A file that does not parse. Holds the place, never the text there, which might be a secret."""


def _parse_yaml(text: str) -> object:
    import yaml  # noqa: PLC0415

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        remark = _yaml_remark(error)
        lines = text.splitlines()
        if mark is not None and mark.line < len(lines) and "[" in lines[mark.line]:
            remark = 'an address that begins with [ must be in quotes: "[::]:8080"'
        raise FileSyntaxError(f"{place}: {remark}") from None
    except yaml.YAMLError:
        raise FileSyntaxError("it holds characters that YAML does not allow") from None


_YAML_REMARKS = (
    ("found undefined alias", "a value that begins with * must be in quotes"),
    ("found undefined tag handle", "a value that begins with ! must be in quotes"),
    ("found duplicate tag handle", "this tag handle was declared above"),
    ("could not determine a constructor", "a value that begins with ! must be in quotes"),
    ("found unknown escape character", "unknown escape; in single quotes \\ needs none"),
    ("found character", "no value begins with this character; write text in quotes, indent with spaces"),
)


def _yaml_remark(error: yaml.MarkedYAMLError) -> str:
    """What the YAML parser says, unless it quotes what stands in the file."""
    import yaml  # noqa: PLC0415

    problem = error.problem or "it does not parse"
    for beginning, remark in _YAML_REMARKS:
        if problem.startswith(beginning):
            return remark
    # The grammar's errors quote names of tokens, the others may quote content.
    quotes = not isinstance(error, yaml.parser.ParserError) and re.search(r"['\"]", problem)
    return "it does not parse" if quotes else problem.partition("\n")[0]


def _parse_toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileSyntaxError(str(error)) from None


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FileSyntaxError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None


def _parse_hcl(text: str) -> object:
    import hcl2  # noqa: PLC0415
    import lark  # noqa: PLC0415

    options = hcl2.SerializationOptions(
        with_comments=False, strip_string_quotes=True, preserve_heredocs=False, explicit_blocks=False
    )
    try:
        return _without_marks(hcl2.loads(text, serialization_options=options))
    except lark.exceptions.UnexpectedInput as error:
        raise FileSyntaxError(f"line {error.line}, column {error.column}") from None
    except lark.exceptions.LarkError:
        raise FileSyntaxError("it does not parse") from None


def _without_marks(content: object) -> object:
    """The same without the parser's own entry that tells a block from an object."""
    if isinstance(content, dict):
        return {key: _without_marks(value) for key, value in content.items() if key != "__is_block__"}
    if isinstance(content, list):
        return [_without_marks(item) for item in content]
    return content


PARSERS: Mapping[str, Callable[[str], object]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": _parse_json,
    ".hcl": _parse_hcl,
}
"""File name extension, lower case, to what turns such a file's text into data; each raises FileSyntaxError."""

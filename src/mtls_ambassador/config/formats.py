"""The formats of a configuration file: text to data, and errors that never quote a value, which may be a secret.

A key that stands twice is refused in all of them. Most parsers take the last, so that one pasted below could switch
off what is read above.

The parsers of YAML and HCL are imported when such a file is read: they take 6 MB, and an edge that is configured by its
environment needs neither.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtls_ambassador.config.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    import lark
    import yaml


class FileSyntaxError(ValueError):
    """A file that does not parse. Holds the place, never the text there, which might be a secret."""


class DuplicateKeyError(FileSyntaxError):
    """A key that stands twice in one mapping.

    Attributes:
        key: Its name.
        place: Where, such as `the second time in line 3`.
    """

    def __init__(self, key: str, place: str) -> None:
        super().__init__(f"{key} is given twice, {place}")
        self.key = key
        self.place = place


def _parse_yaml(text: str) -> object:
    import yaml  # noqa: PLC0415

    class Loader(yaml.SafeLoader):
        # Looked for while nodes are composed: later, those merged in (`<<`) are among a mapping's own.
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise DuplicateKeyError(key.value, f"the second time in line {key.start_mark.line + 1}")
                    seen.add(key.value)
            return node

    try:
        return yaml.load(text, Loader)  # noqa: S506, it is a safe one
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
        found = re.fullmatch(r"Cannot overwrite a value \(at (?:line (\d+), .*|end of document)\)", str(error))
        if found:
            lines = text.splitlines()
            number = int(found[1] or len(lines))
            key = re.match(r"\s*([\w.-]+)\s*=", lines[number - 1])
            if key:
                raise DuplicateKeyError(key[1], f"the second time in line {number}") from None
        raise FileSyntaxError(str(error)) from None


def parse_json(text: str) -> object:
    """The data that JSON text means.

    Raises:
        FileSyntaxError: it is no JSON, or has a key twice in one object.
        ValueError: it has a number of too many digits.
        RecursionError: it is nested too deeply.
    """
    try:
        return _with_single_keys(json.loads(text, object_pairs_hook=_Members), "")
    except json.JSONDecodeError as error:
        raise FileSyntaxError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None


@dataclass(frozen=True, slots=True)
class _Members:
    """An object of JSON as it is written."""

    pairs: list[tuple[str, object]]


def _with_single_keys(value: object, place: str) -> object:
    """The same with mappings for the objects; the parser tells of no lines, so their place is told by keys."""
    if isinstance(value, _Members):
        found = dict[str, object]()
        for key, item in value.pairs:
            if key in found:
                raise DuplicateKeyError(key, f"both times in {place}" if place else "both times at the top")
            found[key] = _with_single_keys(item, f"{place}.{key}" if place else key)
        return found
    if isinstance(value, list):
        return [_with_single_keys(item, f"{place}[{index}]") for index, item in enumerate(value)]
    return value


def _parse_hcl(text: str) -> object:
    import hcl2  # noqa: PLC0415
    import lark  # noqa: PLC0415

    options = hcl2.SerializationOptions(
        with_comments=False, strip_string_quotes=True, preserve_heredocs=False, explicit_blocks=False
    )
    try:
        tree = hcl2.parses_to_tree(text)
        for part in tree.iter_subtrees():
            _require_single_keys(part)
        return _without_marks(hcl2.serialize(hcl2.transform(tree), serialization_options=options))
    except lark.exceptions.UnexpectedInput as error:
        raise FileSyntaxError(f"line {error.line}, column {error.column}") from None
    except lark.exceptions.LarkError:
        raise FileSyntaxError("it does not parse") from None


def _require_single_keys(part: lark.Tree[Any]) -> None:
    """Refuse a body with an attribute, or an object with a key, of a name used before; blocks may be repeated."""
    seen = dict[str, str]()
    for child in part.children:
        kind = getattr(child, "data", None)
        if (part.data, kind) not in (("body", "attribute"), ("body", "block"), ("object", "object_elem")):
            continue
        key = "".join(child.children[0].scan_values(lambda _: True)).strip('"')
        if key in seen and (kind, seen[key]) != ("block", "block"):
            raise DuplicateKeyError(key, f"the second time in line {child.meta.line}")
        seen[key] = str(kind)


def _without_marks(content: object) -> object:
    """The same without the parser's own entry that tells a block from an object."""
    if isinstance(content, dict):
        return {key: _without_marks(value) for key, value in content.items() if key != "__is_block__"}
    if isinstance(content, list):
        return [_without_marks(item) for item in content]
    return content


_PARSERS: Mapping[str, Callable[[str], object]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": parse_json,
    ".hcl": _parse_hcl,
}
"""File name extension, lower case, to what turns such a file's text into data; each raises FileSyntaxError."""


def read_file(path: Path) -> object:
    """The data in a file, in the format that its name tells.

    Raises:
        ConfigurationError: it cannot be read, or its text is not of that format, or says one thing twice.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ConfigurationError(
            (Problem(str(path), "has no known extension", "Name it .yaml, .yml, .toml, .json or .hcl."),)
        )
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            (Problem(str(path), f"cannot be read: {error.strerror}", "Check the path given with --config."),)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError((Problem(str(path), "is not UTF-8 text", "Save it as UTF-8."),)) from error
    except DuplicateKeyError as fault:
        raise ConfigurationError(
            (Problem(f"{fault.key} ({path})", f"is given twice, {fault.place}", "Keep one."),)
        ) from fault
    except FileSyntaxError as fault:
        raise ConfigurationError(
            (Problem(str(path), f"is not valid {path.suffix[1:].upper()}: {fault}", "Mend the syntax there."),)
        ) from fault
    except (ValueError, RecursionError):
        # The parsers' own limits, such as a date in the 13th month, a number of 5000 digits, or a thousand brackets.
        raise ConfigurationError(
            (Problem(str(path), "holds a value that cannot be read", "Write text in quotes, and keep it flat."),)
        ) from None

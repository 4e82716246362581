"""A factory's list of devices: which image gets which certificate and key.

CSV or JSON, one device a line; any other columns may stand beside.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from mtls_ambassador.device.errors import ManifestError
from mtls_ambassador.errors import Error
from mtls_ambassador.lines import LineError, csv_values, json_text

_JSON = (".json", ".jsonl", ".ndjson")
_COLUMNS = ("image", "certificate", "key")


@dataclass(frozen=True, slots=True)
class Row:
    """One device.

    Attributes:
        line: Where it stands in the manifest, from 1.
        image: The file name of its image.
        certificate: Its certificate file.
        key: Its private key file.
    """

    line: int
    image: str
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Manifest:
    """What could be read, and what could not.

    Attributes:
        rows: The devices, in the manifest's order.
        problems: A line of text for each row that cannot be used.
    """

    rows: tuple[Row, ...]
    problems: tuple[str, ...]


def read(path: Path, suffix: str) -> Manifest:
    """Read a manifest: CSV with a header; or, by its ending `.json` or `.jsonl`, one object a line, in a list or not.

    Args:
        path: The manifest. File names in it are relative to its folder.
        suffix: The ending of the template image, which every image must have.

    Raises:
        ManifestError: it cannot be read, has no header with the columns, or holds no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"cannot read the manifest {path}: {error.strerror}", "Check its path.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"the manifest {path} is not UTF-8 text", "Save it as UTF-8.") from error
    return parse(text, path, suffix)


def parse(text: str, path: Path, suffix: str) -> Manifest:
    """The same of a text; pure.

    Raises:
        ManifestError: it has no header with the columns, or holds no rows.
    """
    rows: list[Row] = []
    problems: list[str] = []
    taken: dict[str, int] = {}
    numbered = enumerate(io.StringIO(text, newline=""), 1)
    for line, found in _json(numbered) if path.suffix.lower() in _JSON else _csv(numbered, path):
        try:
            row = _row(line, found, path.parent, suffix)
            if row.image in taken:
                raise ManifestError(f"image {row.image} is line {taken[row.image]}'s already")
        except Error as error:
            problems.append(f"{path}, line {line}: {error.what}")
            continue
        taken[row.image] = line
        rows.append(row)
    if not rows and not problems:
        raise ManifestError(
            f"the manifest {path} names no device", f"Write one line for each, with {', '.join(_COLUMNS)}."
        )
    return Manifest(tuple(rows), tuple(problems))


def _csv(numbered: Iterator[tuple[int, str]], path: Path) -> Iterator[tuple[int, object]]:
    try:
        header = next((values for _, text in numbered if (values := csv_values(text))), ())
    except LineError as error:
        raise ManifestError(f"the manifest {path}, in its header: {error.what}", error.remedy) from error
    if missing := set(_COLUMNS) - set(header):
        raise ManifestError(
            f"the manifest {path} has no column {', '.join(sorted(missing))}",
            f"Begin it with a line that names the columns: {', '.join(_COLUMNS)}; others may stand beside them.",
        )
    for line, text in numbered:
        try:
            if values := csv_values(text):
                yield line, dict(zip(header, values, strict=False))
        except LineError as error:
            yield line, error


def _json(numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    for line, text in numbered:
        try:
            if found := json_text(text):
                yield line, json.loads(found)
        except LineError as error:
            yield line, error
        except (ValueError, RecursionError):
            yield line, None


def _row(line: int, fields: object, directory: Path, suffix: str) -> Row:
    if isinstance(fields, LineError):
        raise fields
    if not isinstance(fields, dict):
        raise ManifestError("is not a JSON object")
    values: dict[str, str] = {}
    for name in _COLUMNS:
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ManifestError(f"has no {name}")
        values[name] = value.strip()
    image = values["image"]
    if PurePath(image).name != image or image.startswith("."):
        raise ManifestError(f"image {image!r} is not a plain file name")
    if PurePath(image).suffix != suffix:
        raise ManifestError(f"image {image} does not end in {suffix} as the template does")
    return Row(line, image, directory / values["certificate"], directory / values["key"])

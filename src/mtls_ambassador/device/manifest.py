"""A factory's list of devices: which image gets which certificate and key.

CSV or JSON Lines; any other columns may stand beside.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mtls_ambassador.device.errors import ManifestError

JSON_LINES = (".jsonl", ".ndjson")
_COLUMNS = "image, certificate, key"


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
    """Read a manifest: `.csv` with a header, or `.jsonl` with one object a line.

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
    for line, fields in _json_lines(text) if path.suffix.lower() in JSON_LINES else _csv(text, path):
        try:
            row = _row(line, fields, path.parent, suffix)
            if row.image in taken:
                raise ManifestError(f"image {row.image} is line {taken[row.image]}'s already")
        except ManifestError as error:
            problems.append(f"{path}, line {line}: {error.what}")
            continue
        taken[row.image] = line
        rows.append(row)
    if not rows and not problems:
        raise ManifestError(f"the manifest {path} names no device", f"Write one line for each, with {_COLUMNS}.")
    return Manifest(tuple(rows), tuple(problems))


def _csv(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = {"image", "certificate", "key"} - set(reader.fieldnames or ())
        if missing:
            raise ManifestError(
                f"the manifest {path} has no column {', '.join(sorted(missing))}",
                f"Begin it with a line that names the columns: {_COLUMNS}; others may stand beside them.",
            )
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise ManifestError(
            f"the manifest {path}, line {reader.line_num}: {error}", "Mend the quotes there."
        ) from error


def _json_lines(text: str) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        yield number, fields if isinstance(fields, dict) else None


def _row(line: int, fields: Mapping[str, Any] | None, directory: Path, suffix: str) -> Row:
    if fields is None:
        raise ManifestError("is not a JSON object")
    values: dict[str, str] = {}
    for name in ("image", "certificate", "key"):
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

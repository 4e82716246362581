"""The manifest of a batch, as CSV and as JSON: what was issued and is not revoked, out of the index.

`devices adopt` of the edge reads its `identity` and `public_key`, `devices preauthorize` its `identity` and `spki`,
and `device image --manifest` its `image`, `certificate` and `key`.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mtls_ambassador.factory import package, worker
from mtls_ambassador.factory.items import Item
from mtls_ambassador.files import replacing

CSV, JSON = "manifest.csv", "manifest.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns there are.

    Attributes:
        archives: One archive a device, rather than a folder.
        key_name: Of the private key's file in its folder; None: there is none.
        image_suffix: Of the device's image, such as `.sdimg`; None: there are no images.
    """

    archives: bool
    key_name: str | None
    image_suffix: str | None


def row(item: Item, layout: Layout) -> dict[str, str]:
    """What the manifest says of a device; file names are relative to its folder."""
    columns = {
        "cn": item.cn,
        "serial": item.serial,
        "fingerprint": item.fingerprint,
        "public_key": item.public_key,
        "spki": base64.b64encode(item.spki).decode(),
        "identity": item.identity,
    }
    if layout.archives:
        columns["archive"] = package.archive_name(item.name)
    else:
        columns["certificate"] = f"{item.name}/{worker.CERTIFICATE}"
        if layout.key_name is not None:
            columns["key"] = f"{item.name}/{layout.key_name}"
    if layout.image_suffix is not None:
        columns["image"] = item.name + layout.image_suffix
    return columns


def write(out: Path, items: Iterable[Item], layout: Layout) -> int:
    """Write both files in place of those before, row by row.

    Returns:
        How many devices are in them.

    Raises:
        WriteError: a file cannot be written.
    """
    number = 0
    encode = json.JSONEncoder(ensure_ascii=False).encode
    header = list(row(_NOBODY, layout))
    with replacing(out / CSV, 0o644) as table, replacing(out / JSON, 0o644) as array:
        text = io.TextIOWrapper(table, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for number, item in enumerate(items, 1):
            columns = row(item, layout)
            writer.writerow(columns.values())
            # One list with an object on each line, so that both a JSON parser and grep read it.
            array.write(b"[" if number == 1 else b",\n")
            array.write(encode(columns).encode())
        array.write(b"]\n" if number else b"[]\n")
        text.detach()
    return number


_NOBODY = Item(0, "", "", "", b"", "", "", "")

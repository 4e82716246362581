"""From a row to an order: the names of one device. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtls_ambassador.factory.errors import RowError
from mtls_ambassador.factory.rows import Row
from mtls_ambassador.factory.template import Template

_LONGEST_NAME = 200  # bytes; file systems take 255, and an ending is added


@dataclass(frozen=True, slots=True)
class Naming:
    """How devices are named after their rows.

    Attributes:
        name: Of the device's folder or archive.
        cn: Common name; None: the request's subject.
        san: More names: `DNS:...`, `IP:...`, `URI:...`.
        identity: Attribute to value, of the identity that the device will claim at Mender.
    """

    name: Template
    cn: Template | None
    san: tuple[Template, ...] = ()
    identity: Mapping[str, Template] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """A device whose certificate shall be made.

    Attributes:
        line, where, request: As in its row.
        name: Of its folder or archive; no two of a batch share it.
        cn: Common name; None: the request's subject.
        san: More names.
        identity: JSON object, or empty.
    """

    line: int
    where: str
    name: str
    cn: str | None
    san: tuple[str, ...] = ()
    identity: str = ""
    request: Path | None = None


def order(row: Row, naming: Naming) -> Order:
    """Fill the templates with a row.

    Raises:
        RowError: the row lacks a value, or the name cannot be a file's.
    """
    name = naming.name.fill(row.fields)
    if "/" in name or name.startswith((".", "-")) or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise RowError(f"{name!r} cannot be a file name; another than the common name: --name")
    return Order(
        row.line,
        row.where,
        name,
        None if naming.cn is None else naming.cn.fill(row.fields),
        tuple(template.fill(row.fields) for template in naming.san),
        _identity({key: template.fill(row.fields) for key, template in naming.identity.items()}),
        row.request,
    )


def _identity(attributes: Mapping[str, str]) -> str:
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":")) if attributes else ""

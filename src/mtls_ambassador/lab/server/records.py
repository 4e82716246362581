"""The records of the embedded Mender Server: what is stored, and what a test gets to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

AttributeValue: TypeAlias = str | float | list[str] | list[float]


@dataclass(frozen=True)
class Device:
    """A row of deviceauth's devices; times are RFC 3339 in UTC, `identity` is the normal form."""

    id: str
    identity: str
    digest: str
    status: str
    decommissioning: bool
    created: str
    updated: str
    check_in: str | None = None


@dataclass(frozen=True)
class AuthSet:
    """A row of deviceauth's auth sets: one key of one identity."""

    id: str
    device_id: str
    identity: str
    digest: str
    pubkey: str
    status: str
    created: str


@dataclass(frozen=True)
class Attribute:
    """An inventory attribute of a device."""

    scope: str
    name: str
    value: object
    description: str | None = None


@dataclass(frozen=True)
class User:
    """The user of the management API; times are RFC 3339 in UTC."""

    id: str
    email: str
    created: str
    login: str | None = None


@dataclass(frozen=True)
class UserToken:
    """A session (`name` is None) or a personal access token; times are seconds since the epoch."""

    id: str
    user_id: str
    name: str | None
    issued: float
    expires: float | None
    last_used: float | None = None


@dataclass(frozen=True)
class LabAuthSet:
    """An auth set as a test sees it; `pubkey` is PKIX PEM."""

    id: str
    pubkey: str
    status: str


@dataclass(frozen=True)
class LabDevice:
    """A device as a test sees it; `inventory` holds the attributes of scope inventory, name to value."""

    id: str
    identity: Mapping[str, object]
    status: str
    auth_sets: tuple[LabAuthSet, ...]
    inventory: Mapping[str, object]
    decommissioning: bool


@dataclass(frozen=True)
class LabCall:
    """A request that was answered; `path` with its query."""

    method: str
    path: str
    status: int


def rfc3339(seconds: float) -> str:
    """A time in seconds since the epoch as Mender writes it: UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

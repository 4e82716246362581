"""Certificates, claims and events of the ledger's tests, and a ledger in a file."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

from mtls_ambassador.ledger.database import Database
from mtls_ambassador.ledger.records import Certificate, Claim, Event, EventKind

NOW = dt.datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
MAC_A, MAC_B, MAC_C = '{"mac":"aa"}', '{"mac":"bb"}', '{"mac":"cc"}'


def sha256(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def certificate(name: str = "a", **other: Any) -> Certificate:
    """The certificate of this name; its key and subject are its own unless said otherwise."""
    fields: dict[str, Any] = {
        "fingerprint": sha256(f"certificate {name}"),
        "key": sha256(f"key {other.pop('key', name)}"),
        "subject": f"CN=device-{name}",
        "issuer": "CN=My CA",
        "serial": sha256(name)[:16],
        "anchor": "default",
        "not_before": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "not_after": dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    }
    return Certificate(**fields | other)


A, B = certificate("a"), certificate("b")


def claim(identity: str = MAC_A, of: Certificate = A, auth_key: str | None = None) -> Claim:
    return Claim(identity, of, auth_key or of.key)


def event(
    kind: EventKind = EventKind.ADMITTED, identity: str | None = MAC_A, of: Certificate | None = A, **more: Any
) -> Event:
    fields: dict[str, Any] = {"at": NOW, "request_id": "request-1", "address": "192.0.2.7:4711"}
    if of is not None:
        fields["auth_key"] = of.key
    return Event(**fields | {"kind": kind, "identity": identity, "certificate": of} | more)


def database(directory: Path) -> Database:
    return Database.at(None, directory)

"""What the ledger holds, as the JSON that `devices ... --json` prints and the control socket sends. Pure."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from mtls_ambassador.ledger.claims import RefusedClaim
from mtls_ambassador.ledger.queries import Device, HistoryEntry, Link, SeenCertificate, Warned
from mtls_ambassador.ledger.records import Adoption, Certificate

Answer = Mapping[str, Any]
"""One object of an answer; on the socket and with `--json`, one line. `kind` says what it is about."""


def line(answer: Answer) -> str:
    """One line of JSON, in ASCII: what a device chose to call itself cannot control a terminal."""
    return json.dumps(answer) + "\n"


def of_device(device: Device) -> dict[str, Any]:
    """A device, who holds it, and what became of the holder."""
    return {
        "kind": "device",
        "identity": device.identity,
        "mender_id": device.mender_id,
        "certificate": of_certificate(device.holder),
        "first_seen": _time(device.first_seen),
        "last_admitted": _time(device.last_admitted),
        "last_refused": _time(device.last_refused),
        "last_reason": device.last_reason,
        "last_address": device.last_address or None,
        "contested": _time(device.contested),
        "adoption": of_adoption(device.adoption),
    }


def of_claim(claim: RefusedClaim) -> dict[str, Any]:
    """An identity, and the certificate that was refused with it."""
    return {
        "kind": "claim",
        "identity": claim.identity,
        "certificate": of_certificate(claim.certificate),
        "last_admitted": _time(claim.last_admitted),
        "last_refused": _time(claim.last_refused),
        "last_reason": claim.last_reason,
    }


def of_seen(seen: SeenCertificate) -> dict[str, Any]:
    """A certificate that holds no device."""
    return {
        "kind": "certificate",
        "certificate": of_certificate(seen.certificate),
        "first_seen": _time(seen.first_seen),
        "last_seen": _time(seen.last_seen),
        "last_refused": _time(seen.last_refused),
        "last_reason": seen.last_reason,
        "last_address": seen.last_address or None,
        "refusals": seen.refusals,
    }


def of_link(link: Link) -> dict[str, Any]:
    """That an identity was admitted with a certificate."""
    return {
        "identity": link.identity,
        "certificate": of_certificate(link.certificate),
        "auth_key_sha256": link.auth_key,
        "first_admitted": _time(link.first_admitted),
        "last_admitted": _time(link.last_admitted),
        "how": link.how,
        "superseded": link.superseded,
    }


def of_entry(entry: HistoryEntry) -> dict[str, Any]:
    """One event of the history; what is not known of it is left out."""
    certificate = entry.certificate
    content = {
        "time": _time(entry.at),
        "event": entry.kind.value,
        "reason": entry.reason,
        "identity": entry.identity,
        "serial": certificate.serial if certificate else None,
        "subject": certificate.subject if certificate else None,
        "rule": entry.rule,
        "detail": entry.detail or None,
        "mender_status": entry.mender_status,
        "mender_id": entry.mender_id,
        "address": entry.address or None,
        "request_id": entry.request_id or None,
        "left_out": entry.left_out or None,
    }
    return {name: value for name, value in content.items() if value is not None}


def of_warned(warned: Warned) -> dict[str, Any]:
    """What a binding rule would have refused."""
    return {
        "kind": "would_refuse",
        "rule": warned.rule,
        "identity": warned.identity,
        "times": warned.times,
        "first": _time(warned.first),
        "last": _time(warned.last),
    }


def of_certificate(certificate: Certificate | None) -> dict[str, Any] | None:
    """A certificate, under the names that the audit log has for its fields."""
    if certificate is None:
        return None
    return {
        "serial": certificate.serial,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "sha256": certificate.fingerprint,
        "key_sha256": certificate.key,
        "anchor": certificate.anchor,
        "not_before": _time(certificate.not_before),
        "not_after": _time(certificate.not_after),
    }


def of_adoption(adoption: Adoption | None) -> dict[str, str] | None:
    """What an operator said about an identity."""
    return None if adoption is None else {"by": adoption.kind.value, "value": adoption.value}


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")

"""Finding a device by what a person has at hand: a name, a serial, an identity attribute, Mender's id, an address."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, false, func, or_, select

from mtls_ambassador.ledger.claims import RefusedClaim, find_claims
from mtls_ambassador.ledger.queries import Device, SeenCertificate, find_certificates, find_devices
from mtls_ambassador.ledger.schema import certificates, claims, devices, digest, links

MOST = 50
"""How many of each kind are found."""

# More than are found are looked at, since what SQL finds is a little too much.
_LOOKED_AT = 20 * MOST
_SHA256 = re.compile(r"(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}", re.IGNORECASE)
_SERIAL = re.compile(r"[0-9a-f]+(?::[0-9a-f]{2})*", re.IGNORECASE)
_SAFE = re.compile(r"[A-Za-z0-9.:_-]+")  # written the same in JSON, RFC 4514 and every database's lower case


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found; `MOST` of each at most."""

    devices: tuple[Device, ...]
    certificates: tuple[SeenCertificate, ...]
    """Those that hold no device that was found: refused ones, and predecessors."""
    claims: tuple[RefusedClaim, ...]
    """Identities that were claimed in vain."""


def search(connection: Connection, text: str) -> Found:
    """Look for `text`.

    Args:
        connection: In a transaction that reads.
        text: One of these: an identity (normal form), an attribute (`mac=52:54:00:00:00:01`) or only its value, the
            subject of a certificate or its CN, its serial, its fingerprint or its key's (SHA-256, hex, with colons or
            without), Mender's device id, an address with or without its port. Letters may be upper or lower case in
            attributes, subjects and hex digits.
    """
    text = text.strip()
    if not text:
        return Found((), (), ())
    came_from = find_devices(connection, _is_address(devices.c.last_address, text), limit=MOST)
    found = {device.number: device for device in (*devices_named(connection, text), *came_from)}
    last_from = find_certificates(connection, _is_address(certificates.c.last_address, text), limit=MOST)
    seen = tuple({one.number: one for one in (*certificates_named(connection, text), *last_from)}.values())
    held = devices.c.id.in_(select(links.c.device_id).where(links.c.certificate_id.in_([one.number for one in seen])))
    if seen:
        found |= {device.number: device for device in find_devices(connection, held, limit=MOST)}
    holders = {device.holder.fingerprint for device in found.values() if device.holder}
    return Found(
        tuple(found[number] for number in sorted(found))[:MOST],
        tuple(one for one in seen if one.certificate.fingerprint not in holders),
        claimed_in_vain(connection, text),
    )


def devices_named(connection: Connection, text: str) -> tuple[Device, ...]:
    """Devices by identity, attribute or Mender's id: what is theirs alone."""
    exact = or_(devices.c.identity_digest == digest(text), devices.c.mender_id == text)
    like = find_devices(connection, _may_name(devices.c.identity, text), limit=_LOOKED_AT)
    return tuple(
        {
            device.number: device
            for device in (
                *find_devices(connection, exact, limit=MOST),
                *[device for device in like if names(device.identity, text)][:MOST],
            )
        }.values()
    )


def claimed_in_vain(connection: Connection, text: str) -> tuple[RefusedClaim, ...]:
    """Refused claims by identity or attribute."""
    wanted = or_(claims.c.identity_digest == digest(text), _may_name(claims.c.identity, text))
    return tuple(
        claim
        for claim in find_claims(connection, wanted, limit=_LOOKED_AT)
        if claim.identity == text or names(claim.identity, text)
    )[:MOST]


def certificates_named(connection: Connection, text: str) -> tuple[SeenCertificate, ...]:
    """Certificates by serial, fingerprint, key or subject."""
    hexadecimal = text.replace(":", "").lower()
    wanted: list[ColumnElement[bool]] = [false()]
    if _SHA256.fullmatch(text):
        wanted += [certificates.c.fingerprint == hexadecimal, certificates.c.key == hexadecimal]
    if _SERIAL.fullmatch(text):
        digits = hexadecimal.lstrip("0") or "0"
        wanted.append(certificates.c.serial.in_([digits, f"0{digits}", f"00{digits}"]))
    by_column = find_certificates(connection, or_(*wanted), limit=MOST)
    like = find_certificates(connection, _may_name(certificates.c.subject, text), limit=_LOOKED_AT)
    by_subject = [one for one in like if is_subject(one.certificate.subject, text)][:MOST]
    return tuple({one.number: one for one in (*by_column, *by_subject)}.values())


def names(identity: str, text: str) -> bool:
    """Whether `text` is an attribute of `identity` (JSON text), as `name=value`, or the value of one."""
    try:
        attributes = json.loads(identity)
    except ValueError:  # only the beginning of a very long one is kept
        return text.lower() in identity.lower()
    if not isinstance(attributes, Mapping):
        return False
    wanted = text.lower()
    written = [(name.lower(), _written(value).lower()) for name, value in attributes.items()]
    return any(wanted in (value, f"{name}={value}") for name, value in written)


def is_subject(subject: str, text: str) -> bool:
    """Whether `text` is all of `subject` (RFC 4514), one of its attributes (`CN=device-1`), or the value of its CN."""
    wanted = text.lower()
    parts = [part.lower() for part in re.split(r"(?<!\\)[,+]", subject)]
    return wanted == subject.lower() or wanted in parts or f"cn={wanted}" in parts


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _may_name(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """What SQL can say of it, the same in every database: the longest plain part of the value occurs there."""
    value = text.partition("=")[2] or text
    longest = max(_SAFE.findall(value), key=len, default="").lower()
    lower = func.lower(column)
    if longest == value.lower():  # with what stands before it in JSON and in RFC 4514, few others are found
        return or_(*(lower.contains(f"{before}{longest}", autoescape=True) for before in ':"='))
    return lower.contains(longest, autoescape=True)


def _is_address(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """The address with its port, or only the host."""
    return or_(
        column == text,
        column.startswith(f"{text}:", autoescape=True),
        column.startswith(f"[{text}]:", autoescape=True),
    )

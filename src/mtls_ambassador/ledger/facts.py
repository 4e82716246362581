"""The one read that admission needs: what is known about a claim. Three statements, each by an index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, Connection, Row, bindparam, exists, or_, select

from mtls_ambassador.ledger.records import Certificate, Claim, Facts, Holder
from mtls_ambassador.ledger.rows import CERTIFICATE, adoption_of, certificate_of
from mtls_ambassador.ledger.schema import certificates, claims, devices, digest, links

MOST_OTHERS = 3
"""More are not needed to refuse, and a certificate that a whole fleet shares has thousands."""

_IDENTITY: BindParameter[str] = bindparam("identity")
_FINGERPRINT: BindParameter[str] = bindparam("fingerprint")
_KEY: BindParameter[str] = bindparam("key")

# Statements are made once: building one costs as much as running it.
_DEVICE = (
    select(
        devices.c.mender_id,
        devices.c.last_admitted,
        devices.c.adoption_kind,
        devices.c.adoption_value,
        *CERTIFICATE,
    )
    .select_from(devices.outerjoin(certificates, devices.c.holder_id == certificates.c.id))
    .where(devices.c.identity_digest == _IDENTITY)
)
# Certificates that the identity itself has had, whatever else they once claimed: a predecessor's thief must not be able
# to spoil the successor's subject.
_ITS_OWN = (
    select(links.c.certificate_id)
    .join(devices, links.c.device_id == devices.c.id)
    .where(devices.c.identity_digest == _IDENTITY)
)
_SIGNS = select(
    exists(
        select(links.c.id)
        .join(devices, links.c.device_id == devices.c.id)
        .join(certificates, links.c.certificate_id == certificates.c.id)
        .where(
            devices.c.identity_digest == _IDENTITY,
            certificates.c.fingerprint == _FINGERPRINT,
            links.c.auth_key == bindparam("auth_key"),
            links.c.superseded.is_(False),
        )
    ).label("known"),
    or_(
        exists(
            select(links.c.id)
            .join(devices, links.c.device_id == devices.c.id)
            .join(certificates, links.c.certificate_id == certificates.c.id)
            .where(
                certificates.c.name == bindparam("name"),
                devices.c.identity_digest != _IDENTITY,
                certificates.c.id.not_in(_ITS_OWN),
            )
        ),
        exists(
            select(claims.c.id)
            .join(certificates, claims.c.certificate_id == certificates.c.id)
            .where(
                certificates.c.name == bindparam("name"),
                claims.c.identity_digest != _IDENTITY,
                certificates.c.id.not_in(_ITS_OWN),
            )
        ),
    ).label("shared"),
    exists(
        select(links.c.id)
        .join(certificates, links.c.certificate_id == certificates.c.id)
        .where(links.c.auth_key == bindparam("auth_key"), certificates.c.key != _KEY)
    ).label("anothers"),
)
_OTHERS = (
    select(devices.c.identity)
    .where(
        devices.c.id.in_(
            select(links.c.device_id)
            .join(certificates, links.c.certificate_id == certificates.c.id)
            .where(
                or_(certificates.c.fingerprint == _FINGERPRINT, certificates.c.key == _KEY),
            )
        ),
        devices.c.identity_digest != _IDENTITY,
    )
    .limit(MOST_OTHERS)
)


def read_facts(connection: Connection, claim: Claim) -> Facts:
    """What the ledger knows about `claim`, within the transaction that `connection` is in."""
    certificate = claim.certificate
    given = {
        "identity": digest(claim.identity),
        "fingerprint": certificate.fingerprint,
        "auth_key": claim.auth_key,
        "key": certificate.key,
        "name": certificate_name(certificate),
    }
    device = connection.execute(_DEVICE, given).one_or_none()
    signs = connection.execute(_SIGNS, given).one()
    return Facts(
        known=bool(signs.known),
        holder=None if device is None else _holder(device),
        other_identities=other_identities(connection, claim.identity, certificate),
        subject_is_shared=bool(signs.shared),
        adoption=None if device is None else adoption_of(device, claim.identity),
        auth_key_is_anothers=claim.auth_key != certificate.key and bool(signs.anothers),
    )


def other_identities(connection: Connection, identity: str, certificate: Certificate) -> tuple[str, ...]:
    """A few identities but `identity` that are held with this certificate or another of its key."""
    given = {"identity": digest(identity), "fingerprint": certificate.fingerprint, "key": certificate.key}
    return tuple(connection.execute(_OTHERS, given).scalars())


def own_identity(connection: Connection, fingerprint: str) -> str | None:
    """The identity that a certificate was admitted with; None: with none, or with several."""
    held = (
        select(devices.c.identity)
        .join(links, links.c.device_id == devices.c.id)
        .join(certificates, links.c.certificate_id == certificates.c.id)
        .where(certificates.c.fingerprint == fingerprint)
        .distinct()
        .limit(2)
    )
    found = connection.execute(held).scalars().all()
    return str(found[0]) if len(found) == 1 else None


def certificate_name(certificate: Certificate) -> str:
    """What stands for issuer and subject in the index.

    Not for the trust anchor: a certificate that moves to another one, or whose anchor is renamed, shares its subject
    with the same others as before, seen there already or not.
    """
    return digest(certificate.issuer, certificate.subject)


def _holder(device: Row[*tuple[Any, ...]]) -> Holder | None:
    if device.fingerprint is None:
        return None
    return Holder(certificate_of(device), device.mender_id, device.last_admitted)

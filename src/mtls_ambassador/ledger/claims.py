"""Identities that certificates were refused with, for operators. Typed and frozen, as `queries`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from mtls_ambassador.ledger.queries import PAGE, DeviceFilter, conditions
from mtls_ambassador.ledger.records import Certificate
from mtls_ambassador.ledger.rows import CERTIFICATE, certificate_of
from mtls_ambassador.ledger.schema import certificates, claims, devices, digest, links


@dataclass(frozen=True, slots=True)
class RefusedClaim:
    """An identity that a certificate was refused with; the last two of each."""

    number: int
    """Of the row, in the order in which they came."""
    identity: str
    """Its beginning, if it is very long."""
    certificate: Certificate
    last_refused: dt.datetime
    last_reason: str | None
    last_admitted: dt.datetime | None
    """When this certificate was last admitted with it."""

    @property
    def stands(self) -> bool:
        """Whether it was not admitted since."""
        return self.last_admitted is None or self.last_admitted < self.last_refused


_LAST_ADMITTED = (
    select(func.max(links.c.last_admitted))
    .join(devices, links.c.device_id == devices.c.id)
    .where(links.c.certificate_id == claims.c.certificate_id, devices.c.identity_digest == claims.c.identity_digest)
    .correlate(claims)
    .scalar_subquery()
    .label("last_admitted")
)
_CLAIMS = select(
    claims.c.id, claims.c.identity, claims.c.last_refused, claims.c.last_reason, _LAST_ADMITTED, *CERTIFICATE
).join(certificates, claims.c.certificate_id == certificates.c.id)


def list_refused(
    connection: Connection, since: dt.datetime, which: DeviceFilter | None = None, *, after: int = 0, limit: int = PAGE
) -> tuple[RefusedClaim, ...]:
    """A page of certificates that were refused, and with which identity, in the order in which they came.

    Args:
        connection: As for all here.
        since: Refused since then.
        which: Of identities of these devices only; None: of any, also of those that no device has.
        after: `number` of the last one of the page before.
        limit: How many at most.
    """
    wanted = conditions(which or DeviceFilter())
    rows = connection.execute(
        _CLAIMS.outerjoin(devices, claims.c.identity_digest == devices.c.identity_digest)
        .where(claims.c.id > after, claims.c.last_refused >= since, *wanted)
        .order_by(claims.c.id)
        .limit(limit)
    )
    return tuple(map(_claim, rows))


def refused_claims(
    connection: Connection, *, identity: str | None = None, fingerprint: str | None = None, limit: int = PAGE
) -> tuple[RefusedClaim, ...]:
    """Who claimed an identity in vain, or what a certificate claimed in vain, the latest first."""
    wanted = list[ColumnElement[bool]]()
    if identity is not None:
        wanted.append(claims.c.identity_digest == digest(identity))
    if fingerprint is not None:
        wanted.append(certificates.c.fingerprint == fingerprint)
    return find_claims(connection, *wanted, limit=limit)


def find_claims(connection: Connection, *wanted: ColumnElement[bool], limit: int) -> tuple[RefusedClaim, ...]:
    """Refused claims by conditions on their columns and their certificate's, the latest first."""
    rows = connection.execute(
        _CLAIMS.where(*wanted).order_by(claims.c.last_refused.desc(), claims.c.id.desc()).limit(limit)
    )
    return tuple(map(_claim, rows))


def _claim(row: Row[Any]) -> RefusedClaim:
    return RefusedClaim(row.id, row.identity, certificate_of(row), row.last_refused, row.last_reason, row.last_admitted)

"""Identities that were claimed in vain and that no device has: a stranger's claim makes no device."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Connection, exists, select

from mtls_ambassador.ledger.queries import PAGE, RefusedClaim
from mtls_ambassador.ledger.records import Certificate
from mtls_ambassador.ledger.schema import certificates, claims, devices


@dataclass(frozen=True, slots=True)
class StrangersClaim:
    """One of them, for a list."""

    number: int
    claim: RefusedClaim


_CLAIMS = (
    select(claims, *(certificates.c[name].label(f"of_{name}") for name in Certificate.__slots__))
    .join(certificates, claims.c.certificate_id == certificates.c.id)
    .where(~exists().where(devices.c.identity_digest == claims.c.identity_digest))
    .order_by(claims.c.id)
)


def list_strangers(
    connection: Connection, since: dt.datetime, *, after: int = 0, limit: int = PAGE
) -> tuple[StrangersClaim, ...]:
    """A page of such claims, in the order in which they came.

    Args:
        connection: In a transaction that reads.
        since: Refused since then.
        after: `number` of the last one of the page before.
        limit: How many at most.
    """
    rows = connection.execute(_CLAIMS.where(claims.c.id > after, claims.c.last_refused >= since).limit(limit))
    return tuple(
        StrangersClaim(
            row.id,
            RefusedClaim(
                row.identity,
                Certificate(**{name: getattr(row, f"of_{name}") for name in Certificate.__slots__}),
                row.last_refused,
                row.last_reason,
            ),
        )
        for row in rows
    )

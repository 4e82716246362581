"""What operators ask of the ledger: lists, one device, history, what a rule would have refused. Typed and frozen.

Each function takes a connection in a transaction that reads (`Ledger.query`, `opened_for_reading`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

from mtls_ambassador.ledger.records import Adoption, Certificate, EventKind
from mtls_ambassador.ledger.rows import CERTIFICATE, adoption_of, certificate_of
from mtls_ambassador.ledger.schema import certificates, claims, devices, digest, history, links

PAGE = 500


@dataclass(frozen=True, slots=True)
class Device:
    """One identity that somebody was admitted with, or that an operator named."""

    number: int
    """Of the row, in the order in which devices came."""
    identity: str
    mender_id: str | None
    holder: Certificate | None
    first_seen: dt.datetime
    last_admitted: dt.datetime | None
    last_refused: dt.datetime | None
    """When its holder was; what befell others who claim it is in `claims.list_refused`."""
    last_reason: str | None
    """Why its holder was last refused."""
    last_address: str
    """From where it was last admitted."""
    contested: dt.datetime | None
    """When several keys were last seen to claim it by turns."""
    adoption: Adoption | None


@dataclass(frozen=True, slots=True)
class SeenCertificate:
    """A certificate that came here, admitted or not."""

    number: int
    certificate: Certificate
    first_seen: dt.datetime
    last_seen: dt.datetime
    refusals: int
    """All of them, also those that the history leaves out."""
    last_refused: dt.datetime | None
    last_reason: str | None
    last_address: str


@dataclass(frozen=True, slots=True)
class Link:
    """That a device was admitted with a certificate."""

    identity: str
    certificate: Certificate
    auth_key: str
    first_admitted: dt.datetime
    last_admitted: dt.datetime
    how: str
    """Kind of the event by which it came to be."""
    superseded: bool
    """Another certificate has taken its place."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One event, as it is kept."""

    number: int
    at: dt.datetime
    kind: EventKind
    request_id: str
    address: str
    identity: str | None
    """Its beginning, if it is very long."""
    certificate: Certificate | None
    auth_key: str | None
    """Where it was not the certificate's own."""
    reason: str | None
    detail: str
    mender_id: str | None
    mender_status: int | None
    rule: str | None
    left_out: int
    """How many of its like came before it that are not in the history."""


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices to list; all that is given must hold."""

    refused_since: dt.datetime | None = None
    """Whom, rather than devices: `claims.list_refused`."""
    contested_since: dt.datetime | None = None
    warned_since: dt.datetime | None = None
    """A binding rule would have refused it since then."""
    adopted: bool = False
    """An operator, or `adopt_until`, gave it to its certificate, or is to when that comes."""


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which entries to list; all that is given must hold."""

    identity: str | None = None
    fingerprint: str | None = None
    kinds: tuple[EventKind, ...] = ()
    reason: str | None = None
    rule: str | None = None
    request_id: str | None = None
    unclaimed: bool = False
    """No identity is known of it: it did not come so far as to claim one."""
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Warned:
    """What a binding rule would have refused, if it were in mode `refuse`."""

    rule: str | None
    identity: str | None
    times: int
    first: dt.datetime
    last: dt.datetime


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is."""

    devices: int
    certificates: int
    history: int


_DEVICES = (
    select(devices, claims.c.last_refused, claims.c.last_reason, *CERTIFICATE)
    .outerjoin(certificates, devices.c.holder_id == certificates.c.id)
    .outerjoin(
        claims,
        and_(claims.c.certificate_id == devices.c.holder_id, claims.c.identity_digest == devices.c.identity_digest),
    )
)


def conditions(which: DeviceFilter) -> Iterator[ColumnElement[bool]]:
    """A filter as conditions on the columns of `devices`."""
    if which.contested_since is not None:
        yield devices.c.contested >= which.contested_since
    if which.warned_since is not None:
        warned = select(history.c.identity_digest).where(
            history.c.kind == EventKind.WARNED.value, history.c.at >= which.warned_since
        )
        yield devices.c.identity_digest.in_(warned)
    if which.adopted:
        adopted = select(links.c.device_id).where(links.c.how == EventKind.ADOPTED.value)
        yield or_(devices.c.adoption_kind.is_not(None), devices.c.id.in_(adopted))


def list_devices(
    connection: Connection, which: DeviceFilter | None = None, *, after: int = 0, limit: int = PAGE
) -> tuple[Device, ...]:
    """A page of devices, in the order in which they came.

    Args:
        connection: As for all here.
        which: None: all. `refused_since` is not looked at.
        after: `number` of the last one of the page before.
        limit: How many at most.
    """
    return find_devices(connection, devices.c.id > after, *conditions(which or DeviceFilter()), limit=limit)


def every_device(connection: Connection, which: DeviceFilter | None = None) -> Iterator[Device]:
    """All devices, page by page, so that a large fleet is never in memory."""
    after = 0
    while page := list_devices(connection, which, after=after):
        yield from page
        after = page[-1].number


def find_devices(connection: Connection, *wanted: ColumnElement[bool], limit: int) -> tuple[Device, ...]:
    """Devices by conditions on their columns and their holder's, in the order in which they came."""
    rows = connection.execute(_DEVICES.where(*wanted).order_by(devices.c.id).limit(limit))
    return tuple(map(_device, rows))


def find_certificates(connection: Connection, *wanted: ColumnElement[bool], limit: int) -> tuple[SeenCertificate, ...]:
    """Certificates by conditions on their columns, in the order in which they came."""
    rows = connection.execute(select(certificates).where(*wanted).order_by(certificates.c.id).limit(limit))
    return tuple(
        SeenCertificate(
            row.id, certificate_of(row), row.first_seen, row.last_seen, row.refusals, row.last_refused,
            row.last_reason, row.last_address,
        )
        for row in rows
    )  # fmt: skip


def device(connection: Connection, identity: str) -> Device | None:
    """The device of an identity (normal form)."""
    found = find_devices(connection, devices.c.identity_digest == digest(identity), limit=1)
    return found[0] if found else None


def adoptions(connection: Connection, identities: Collection[str]) -> dict[str, Adoption]:
    """What operators said about some of these identities (normal form); a thousand at a time at most."""
    named = devices.c.identity_digest.in_([digest(identity) for identity in identities])
    rows = connection.execute(_DEVICES.where(named, devices.c.adoption_kind.is_not(None)))
    found = map(_device, rows)
    return {device.identity: device.adoption for device in found if device.adoption is not None}


def links_of_identity(connection: Connection, identity: str) -> tuple[Link, ...]:
    """With what an identity was admitted, the latest first."""
    return _links(connection, devices.c.identity_digest == digest(identity))


def links_of_certificate(connection: Connection, fingerprint: str) -> tuple[Link, ...]:
    """With which identities a certificate was admitted, the latest first."""
    return _links(connection, certificates.c.fingerprint == fingerprint)


def list_history(
    connection: Connection, which: HistoryFilter | None = None, *, before: int | None = None, limit: int = PAGE
) -> tuple[HistoryEntry, ...]:
    """A page of history, the latest first.

    Args:
        connection: As for all here.
        which: None: all.
        before: `number` of the last one of the page before; None: the newest page.
        limit: How many at most.
    """
    statement: Select[Any] = select(history, *_certificate_columns("of_")).outerjoin(
        certificates, history.c.certificate_id == certificates.c.id
    )
    if before is not None:
        statement = statement.where(history.c.id < before)
    rows = connection.execute(
        statement.where(*_of_history(which or HistoryFilter())).order_by(history.c.id.desc()).limit(limit)
    )
    return tuple(map(_entry, rows))


def warned(connection: Connection, since: dt.datetime) -> tuple[Warned, ...]:
    """What `mode: refuse` would have refused since then, by rule and identity, the most frequent first."""
    times = func.sum(history.c.left_out + 1).label("times")
    rows = connection.execute(
        select(
            history.c.rule,
            func.max(history.c.identity).label("identity"),
            times,
            func.min(history.c.at).label("first"),
            func.max(history.c.at).label("last"),
        )
        .where(history.c.kind == EventKind.WARNED.value, history.c.at >= since)
        .group_by(history.c.rule, history.c.identity_digest)
        .order_by(times.desc(), history.c.rule)
    )
    return tuple(Warned(row.rule, row.identity, int(row.times), row.first, row.last) for row in rows)


def totals(connection: Connection) -> Totals:
    """How much there is; of history about how much."""
    counts = [
        connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (devices, certificates)
    ]
    first = connection.execute(select(func.min(history.c.id))).scalar()
    last = connection.execute(select(func.max(history.c.id))).scalar()
    return Totals(counts[0], counts[1], 0 if first is None or last is None else last - first + 1)


def _of_history(which: HistoryFilter) -> Iterator[ColumnElement[bool]]:
    if which.identity is not None:
        yield history.c.identity_digest == digest(which.identity)
    if which.fingerprint is not None:
        its = select(certificates.c.id).where(certificates.c.fingerprint == which.fingerprint)
        yield history.c.certificate_id == its.scalar_subquery()
    if which.kinds:
        yield history.c.kind.in_([kind.value for kind in which.kinds])
    for name in ("reason", "rule", "request_id"):
        if (value := getattr(which, name)) is not None:
            yield history.c[name] == value
    if which.unclaimed:
        yield history.c.identity_digest.is_(None)
    if which.since is not None:
        yield history.c.at >= which.since
    if which.until is not None:
        yield history.c.at < which.until


def _links(connection: Connection, wanted: ColumnElement[bool]) -> tuple[Link, ...]:
    rows = connection.execute(
        select(links, devices.c.identity, *CERTIFICATE)
        .join(devices, links.c.device_id == devices.c.id)
        .join(certificates, links.c.certificate_id == certificates.c.id)
        .where(wanted)
        .order_by(links.c.superseded, links.c.last_admitted.desc(), links.c.id.desc())
        .limit(PAGE)
    )
    return tuple(
        Link(
            row.identity, certificate_of(row), row.auth_key, row.first_admitted, row.last_admitted, row.how,
            row.superseded,
        )
        for row in rows
    )  # fmt: skip


def _certificate_columns(prefix: str) -> list[ColumnElement[Any]]:
    return [column.label(f"{prefix}{column.name}") for column in CERTIFICATE]


def _device(row: Row[Any]) -> Device:
    return Device(
        number=row.id,
        identity=row.identity,
        mender_id=row.mender_id,
        holder=None if row.holder_id is None else certificate_of(row),
        first_seen=row.first_seen,
        last_admitted=row.last_admitted,
        last_refused=row.last_refused,
        last_reason=row.last_reason,
        last_address=row.last_address,
        contested=row.contested,
        adoption=adoption_of(row, row.identity),
    )


def _entry(row: Row[Any]) -> HistoryEntry:
    return HistoryEntry(
        number=row.id,
        at=row.at,
        kind=EventKind(row.kind),
        request_id=row.request_id,
        address=row.address,
        identity=row.identity,
        certificate=None if row.certificate_id is None else certificate_of(row, "of_"),
        auth_key=row.auth_key,
        reason=row.reason,
        detail=row.detail,
        mender_id=row.mender_id,
        mender_status=row.mender_status,
        rule=row.rule,
        left_out=row.left_out,
    )

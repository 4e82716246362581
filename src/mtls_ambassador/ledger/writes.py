"""What an event changes in the ledger, within a transaction that keeps every other writer out."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import Connection, Table, and_, bindparam, case, delete, func, insert, select, update
from sqlalchemy.dialects import sqlite

from mtls_ambassador.ledger.facts import certificate_name, other_identities, own_identity
from mtls_ambassador.ledger.records import Adoption, Certificate, Event, EventKind
from mtls_ambassador.ledger.rows import adoption_of
from mtls_ambassador.ledger.schema import certificates, claims, devices, digest, history, links

CLAIMS_KEPT = 2
"""Of each certificate. Two are enough to know of another identity; a hostile device tries many."""

LONGEST_TEXT = 1024
"""Characters of a text that is only shown. A stranger chooses his identity, up to the size of a request."""

_CLOCKS_DIFFER = dt.timedelta(hours=1)
_BY_WHAT = (EventKind.PREAUTHORISED, EventKind.ACCEPTED, EventKind.ROTATED, EventKind.ADOPTED, EventKind.READMITTED)

_log = structlog.get_logger()


def write(connection: Connection, event: Event, left_out: int | None = 0, *, one_identity_per_key: bool = True) -> None:
    """Write one event.

    Args:
        connection: In a transaction that keeps every other writer out.
        event: What happened.
        left_out: How many of its like since the last one are not in the history; None: nor shall this one be.
        one_identity_per_key: Say so when a key comes to hold a second identity, as two nodes at the same time can bring
            about.
    """
    if event.token_of is not None and event.identity is None:
        event = replace(event, identity=own_identity(connection, event.token_of))
    certificate_id = None
    if event.kind is EventKind.FORGOTTEN:
        certificate_id = _forget(connection, event)
    elif event.certificate is not None:
        certificate_id = _see(connection, event, event.certificate)
    if (
        event.kind in (EventKind.ADMITTED, EventKind.PREAUTHORISED)
        and event.identity
        and event.certificate
        and certificate_id is not None
    ):
        new = _admit(connection, event, event.identity, event.certificate, certificate_id)
        if new and one_identity_per_key:
            _look_for_others(connection, event, event.identity, event.certificate, certificate_id)
    elif event.kind is EventKind.REFUSED and event.identity and certificate_id is not None:
        _refuse(connection, event, event.identity, certificate_id)
    elif event.kind is EventKind.CONTESTED and event.identity:
        held = devices.c.identity_digest == digest(event.identity)
        connection.execute(update(devices).where(held).values(contested=event.at))
    elif event.kind is EventKind.ADOPTION_NOTED and event.adoption:
        _adopt(connection, event.at, event.adoption)
    if left_out is not None:
        _tell(connection, event, certificate_id, left_out)


def _see(connection: Connection, event: Event, certificate: Certificate) -> int:
    """Note the certificate; returns its number."""
    refused = event.kind is EventKind.REFUSED
    seen: dict[str, Any] = {
        "fingerprint": certificate.fingerprint,
        "key": certificate.key,
        "name": certificate_name(certificate),
        "subject": plain(certificate.subject, None),
        "issuer": plain(certificate.issuer, None),
        "serial": certificate.serial,
        "anchor": certificate.anchor,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "first_seen": event.at,
        "last_seen": event.at,
        "refusals": 1 + event.left_out if refused else 0,
        "last_refused": event.at if refused else None,
        "last_reason": event.reason if refused else None,
        "last_address": plain(event.address),
    }
    number: int = connection.execute(_seen(connection.dialect.name, refused=refused), seen).scalar_one()
    return number


@functools.cache
def _seen(dialect: str, *, refused: bool) -> Any:
    statement = _insert(dialect, certificates)
    new = statement.excluded
    # Whoever is refused before his trust anchor was looked for keeps the one he is known by.
    anchor = case((new.anchor != "", new.anchor), else_=certificates.c.anchor)
    changed = {"last_seen": new.last_seen, "last_address": new.last_address, "anchor": anchor}
    if refused:
        changed |= {
            "refusals": certificates.c.refusals + new.refusals,
            "last_refused": new.last_refused,
            "last_reason": new.last_reason,
        }
    return statement.on_conflict_do_update(index_elements=["fingerprint"], set_=changed).returning(certificates.c.id)


# Statements are made once, as in `facts`.
_HOLDER = select(
    devices.c.id, devices.c.holder_id, devices.c.last_admitted, devices.c.adoption_kind, devices.c.adoption_value
).where(devices.c.identity_digest == bindparam("identity"))
_LINK = select(links.c.id).where(
    links.c.device_id == bindparam("device"),
    links.c.certificate_id == bindparam("certificate"),
    links.c.auth_key == bindparam("auth_key"),
)
_HOW = (
    select(history.c.kind)
    .where(
        history.c.identity_digest == bindparam("identity"),
        history.c.certificate_id == bindparam("certificate"),
        history.c.request_id == bindparam("request_id"),
        history.c.kind.in_(_BY_WHAT),
    )
    .order_by(history.c.id.desc())
    .limit(1)
)
_TOLD = insert(history)


def _admit(connection: Connection, event: Event, identity: str, certificate: Certificate, certificate_id: int) -> bool:
    """Note who holds the identity now; returns whether it never did so before with this key."""
    name, auth_key = digest(identity), event.auth_key or certificate.key
    before = connection.execute(_HOLDER, {"identity": name}).one_or_none()
    holds = (
        before is None
        or before.holder_id in (None, certificate_id)
        or _is_later(event.at, before.last_admitted or event.at)
    )
    if before is None or holds:
        admitted = {
            "identity_digest": name,
            "identity": identity,
            "mender_id": event.mender_id,
            "holder_id": certificate_id,
            "first_seen": event.at,
            "last_admitted": event.at,
            "last_address": plain(event.address),
        }
        device_id = connection.execute(_held(connection.dialect.name), admitted).scalar_one()
    else:
        device_id = before.id
    known = {"device": device_id, "certificate": certificate_id, "auth_key": auth_key}
    new = connection.execute(_LINK, known).one_or_none() is None
    link = {
        "device_id": device_id,
        "certificate_id": certificate_id,
        "auth_key": auth_key,
        "first_admitted": event.at,
        "last_admitted": event.at,
        "how": _how(connection, event, name, certificate_id) if new else EventKind.ADMITTED,
        "superseded": not holds,
    }
    connection.execute(_linked(connection.dialect.name), link)
    word = adoption_of(before, identity) if before is not None else None
    if holds and word is not None and word.names(certificate):
        # The operator's word has come true: from now on the identity is the certificate's, and rotates as any other.
        fulfilled = update(devices).where(devices.c.id == device_id)
        connection.execute(fulfilled.values(adoption_kind=None, adoption_value=None))
    if holds and before is not None and before.holder_id != certificate_id:
        others = and_(links.c.device_id == device_id, links.c.certificate_id != certificate_id)
        connection.execute(update(links).where(others).values(superseded=True))
    return new


def _is_later(at: dt.datetime, held_since: dt.datetime) -> bool:
    """Whether an admission counts after another, which another node may have written before it.

    Where they are further apart than an event ever waits, it is the clocks that differ, and the later written counts.
    """
    return at >= held_since or held_since - at > _CLOCKS_DIFFER


@functools.cache
def _held(dialect: str) -> Any:
    statement = _insert(dialect, devices)
    new = statement.excluded
    changed = {
        "mender_id": func.coalesce(new.mender_id, devices.c.mender_id),
        "holder_id": new.holder_id,
        "last_admitted": new.last_admitted,
        "last_address": new.last_address,
    }
    return statement.on_conflict_do_update(index_elements=["identity_digest"], set_=changed).returning(devices.c.id)


@functools.cache
def _linked(dialect: str) -> Any:
    statement = _insert(dialect, links)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["device_id", "certificate_id", "auth_key"],
        set_={"last_admitted": new.last_admitted, "superseded": new.superseded},
    )


def _how(connection: Connection, event: Event, identity: str, certificate_id: int) -> str:
    """What the edge did in Mender for this admission: the entry before it, of the same request."""
    request = {"identity": identity, "certificate": certificate_id, "request_id": plain(event.request_id)}
    return connection.execute(_HOW, request).scalar() or EventKind.ADMITTED


def _look_for_others(
    connection: Connection, event: Event, identity: str, certificate: Certificate, certificate_id: int
) -> None:
    others = other_identities(connection, identity, certificate)
    if not others:
        return
    _log.error(
        "a certificate's key was admitted with a second identity",
        identity=plain(identity),
        others=[plain(other) for other in others],
        serial=certificate.serial,
        remedy="Two nodes admitted it at the same time. Find out which identity is its own, and reject the other one.",
    )
    shared = Event(
        event.at, EventKind.KEY_SHARED, event.request_id, event.address, identity, certificate, event.auth_key,
        detail=f"its key holds {', '.join(others)}, too",
    )  # fmt: skip
    _tell(connection, shared, certificate_id, 0)


def _refuse(connection: Connection, event: Event, identity: str, certificate_id: int) -> None:
    """Note it with the certificate that was refused: it says nothing about whoever has the identity."""
    name = digest(identity)
    claim = {
        "certificate_id": certificate_id,
        "identity_digest": name,
        "identity": plain(identity),
        "last_refused": event.at,
        "last_reason": event.reason,
    }
    connection.execute(_claimed(connection.dialect.name), claim)
    its_own = claims.c.certificate_id == certificate_id
    last = claims.alias()
    kept = (
        select(last.c.id)
        .where(last.c.certificate_id == certificate_id, last.c.identity_digest != name)
        .order_by(last.c.last_refused.desc(), last.c.id.desc())
        .limit(CLAIMS_KEPT - 1)
    )
    connection.execute(delete(claims).where(its_own, claims.c.identity_digest != name, claims.c.id.not_in(kept)))


@functools.cache
def _claimed(dialect: str) -> Any:
    statement = _insert(dialect, claims)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["certificate_id", "identity_digest"],
        set_={"last_refused": new.last_refused, "last_reason": new.last_reason},
    )


def _adopt(connection: Connection, at: dt.datetime, adoption: Adoption) -> None:
    """Note an operator's word; the device need not have been here yet."""
    noted = {
        "identity_digest": digest(adoption.identity),
        "identity": adoption.identity,
        "first_seen": at,
        "last_address": "",
        "adoption_kind": adoption.kind.value,
        "adoption_value": adoption.value,
    }
    connection.execute(_adopted(connection.dialect.name), noted)


@functools.cache
def _adopted(dialect: str) -> Any:
    statement = _insert(dialect, devices)
    changed = {name: statement.excluded[name] for name in ("adoption_kind", "adoption_value")}
    return statement.on_conflict_do_update(index_elements=["identity_digest"], set_=changed)


def _forget(connection: Connection, event: Event) -> int | None:
    """Forget an identity, a certificate, or that the two belong together; the history stays."""
    certificate_id: int | None = None
    if event.certificate is not None:
        known = certificates.c.fingerprint == event.certificate.fingerprint
        certificate_id = connection.execute(select(certificates.c.id).where(known)).scalar()
        if certificate_id is None:
            return None
    if event.identity is None and certificate_id is None:
        return None
    claimed, linked, held = [], [], []
    if certificate_id is not None:
        claimed.append(claims.c.certificate_id == certificate_id)
        linked.append(links.c.certificate_id == certificate_id)
        held.append(devices.c.holder_id == certificate_id)
    if event.identity is not None:
        device = devices.c.identity_digest == digest(event.identity)
        claimed.append(claims.c.identity_digest == digest(event.identity))
        linked.append(links.c.device_id.in_(select(devices.c.id).where(device)))
        held.append(device)
    connection.execute(delete(claims).where(*claimed))
    connection.execute(delete(links).where(*linked))
    if certificate_id is None:
        connection.execute(delete(devices).where(*held))
    else:
        connection.execute(update(devices).where(*held).values(holder_id=None))
    return certificate_id


def _tell(connection: Connection, event: Event, certificate_id: int | None, left_out: int) -> None:
    identity = event.adoption.identity if event.adoption else event.identity
    own_key = event.certificate is not None and event.auth_key == event.certificate.key
    entry = {
        "at": event.at,
        "kind": event.kind.value,
        "request_id": plain(event.request_id),
        "address": plain(event.address),
        "identity_digest": None if identity is None else digest(identity),
        "identity": None if identity is None else plain(identity),
        "certificate_id": certificate_id,
        "auth_key": None if own_key else event.auth_key,
        "reason": event.reason,
        "detail": plain(event.detail),
        "mender_id": event.mender_id,
        "mender_status": event.mender_status,
        "rule": event.rule,
        "left_out": left_out,
    }
    connection.execute(_TOLD, entry)


def plain(text: str, longest: int | None = LONGEST_TEXT) -> str:
    """Text as every database takes it (no NUL, no lone surrogate), cut where it is only shown."""
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 1]}…"
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _insert(dialect: str, table: Table) -> Any:
    if dialect == "sqlite":
        return sqlite.insert(table)
    # Two megabytes that an edge with a SQLite ledger need not have.
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415

    return postgresql.insert(table)

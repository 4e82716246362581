"""What the ledger forgets by itself: history that is old, or too much. Devices and certificates stay."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, delete, func, select

from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.ledger.schema import claims, history

AT_ONCE = 1000
"""Rows in one transaction, so that nobody waits long for its end."""


def tidy(connection: Connection, *, before: dt.datetime, most_rows: int) -> bool:
    """Delete some of what is to be deleted.

    Args:
        connection: In a transaction that keeps every other writer out.
        before: Until when history and refused claims are too old.
        most_rows: How much history is kept at most.

    Returns:
        Whether there may be more.
    """
    room = AT_ONCE
    for kind in EventKind:  # each by the index
        if room > 0:
            old = select(history.c.id).where(history.c.kind == kind.value, history.c.at < before).limit(room)
            room -= connection.execute(delete(history).where(history.c.id.in_(old))).rowcount
    too_many = _excess(connection, most_rows)
    if room > 0 and too_many is not None:
        first, last = too_many
        end = min(last, first + room - 1)
        connection.execute(delete(history).where(history.c.id <= end))
        room = 0 if end < last else room
    if room > 0:
        stale = select(claims.c.id).where(claims.c.last_refused < before).limit(room)
        room -= connection.execute(delete(claims).where(claims.c.id.in_(stale))).rowcount
    return room <= 0


def _excess(connection: Connection, most_rows: int) -> tuple[int, int] | None:
    """Numbers of the first and the last row too many. Numbers that were never used count as rows: they are few."""
    # Two statements, since SQLite finds both ends by the index, though not in one.
    first = connection.execute(select(func.min(history.c.id))).scalar()
    newest = connection.execute(select(func.max(history.c.id))).scalar()
    if first is None or newest is None or newest - first < most_rows:
        return None
    return first, newest - most_rows

"""A ledger with a story in it, for the tests of what operators ask."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from sqlalchemy import Connection

from mtls_ambassador.devices.answers import Answer
from mtls_ambassador.devices.operators import Operator
from mtls_ambassador.devices.questions import list_page
from mtls_ambassador.ledger.database import writing
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Event, EventKind
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import MAC_A, MAC_B, NOW, A, B, certificate, event

ALICE = Operator(1000, "alice")
NEW_A = certificate("new", subject="CN=board-7")
MINUTE = dt.timedelta(minutes=1)
HELD = f"it belongs to the certificate with serial {A.serial} and subject 'CN=device-a' of 'CN=My CA', not to this one"

STORY = (
    event(at=NOW, mender_id="m-1"),
    event(EventKind.REFUSED, of=NEW_A, at=NOW + MINUTE, reason="key_change_needs_approval", detail=HELD),
    event(identity=MAC_B, of=B, at=NOW + 2 * MINUTE, mender_id="m-2"),
)


def tell(connection: Connection, *events: Event) -> None:
    """Write events to a ledger."""
    connection.rollback()  # what a test has just read
    with writing(connection):
        for one in events:
            write(connection, one)


def every_page(connection: Connection, which: DeviceFilter) -> Iterator[Answer]:
    """A whole list."""
    after: int | None = 0
    while after is not None:
        answers, after = list_page(connection, which, after)
        yield from answers


__all__ = [
    "ALICE", "HELD", "MAC_A", "MAC_B", "MINUTE", "NEW_A", "NOW", "STORY", "A", "B", "event", "every_page", "tell",
]  # fmt: skip

"""Claims to identities that no device has, page by page."""

from __future__ import annotations

from sqlalchemy import Connection

from mtls_ambassador.ledger.database import writing
from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.ledger.strangers import list_strangers
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import MAC_A, MAC_B, NOW, SECOND, A, B, certificate, event


def test_only_what_no_device_has(connection: Connection) -> None:
    strangers = [certificate(str(number)) for number in range(5)]
    with writing(connection):
        write(connection, event())
        write(connection, event(EventKind.REFUSED, MAC_A, B, reason="key_change_needs_approval"))
        for number, one in enumerate(strangers):
            write(connection, event(EventKind.REFUSED, MAC_B, one, at=NOW + number * SECOND, reason="device_limit"))
    first = list_strangers(connection, NOW, limit=3)
    second = list_strangers(connection, NOW, after=first[-1].number, limit=3)
    assert [found.claim.certificate for found in (*first, *second)] == strangers
    assert {(found.claim.identity, found.claim.last_reason) for found in first} == {(MAC_B, "device_limit")}
    assert [found.claim.certificate for found in list_strangers(connection, NOW + 4 * SECOND)] == strangers[4:]
    assert A not in strangers

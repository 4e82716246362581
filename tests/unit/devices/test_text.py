"""Texts for a terminal: nothing in them controls it."""

from __future__ import annotations

from sqlalchemy import Connection

from mtls_ambassador.devices import text
from mtls_ambassador.devices.changes import what_to_forget
from mtls_ambassador.devices.questions import explained, look_up, report, shown
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import EventKind
from tests.unit.devices.examples import MAC_A, MINUTE, NOW, STORY, A, event, every_page, tell
from tests.unit.ledger.examples import certificate

EVIL = "\x1b[2J\u202e\x07\r\nadmitted\x9b"


def test_a_hostile_device_everywhere(connection: Connection) -> None:
    evil = certificate("evil", subject=f"CN={EVIL}", issuer=EVIL)
    name = '{"mac":"\\u001b' + EVIL.replace("\n", "") + '"}'
    tell(
        connection,
        event(identity=name, of=evil, mender_id=EVIL, address=EVIL),
        event(EventKind.REFUSED, name, A, at=NOW + MINUTE, reason="key_change_needs_approval", detail=EVIL, rule=EVIL),
        event(EventKind.WARNED, name, evil, rule=EVIL, detail=EVIL),
    )
    found = look_up(connection, evil.serial)
    lines = [
        *text.table(every_page(connection, DeviceFilter())),
        *text.shown(shown(found)[0]),
        *text.explained(explained(found)[0]),
        *text.reported(report(connection, NOW - MINUTE, EVIL)),
        *text.several(shown(found), EVIL),
        text.nothing({"devices": 1, "certificates": 1}, EVIL, "x"),
        text.to_be_forgotten(what_to_forget(connection, evil.serial).as_answer()),
    ]
    assert len(lines) > 30
    assert all(line.isprintable() for line in lines), lines


def test_a_table(connection: Connection) -> None:
    tell(connection, *STORY)
    header, first, second = text.table(every_page(connection, DeviceFilter()))
    assert header.split() == ["LAST", "ADMITTED", "LAST", "REFUSED", "REASON", "SERIAL", "IDENTITY", "SUBJECT"]
    assert first.split() == [
        "2026-06-01", "12:00", "-", "-", A.serial, MAC_A, "CN=device-a",
    ]  # fmt: skip
    assert " -  " in second
    assert not list(text.table([]))

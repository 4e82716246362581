"""What operators ask, out of a ledger."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from mtls_ambassador.devices.questions import explained, list_page, look_up, report, shown
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Event, EventKind
from tests.unit.devices.examples import MAC_A, MAC_B, MINUTE, NEW_A, NOW, STORY, B, event, every_page, tell
from tests.unit.ledger.examples import certificate


def test_who_was_refused_and_not_whose_identity_it_claimed(connection: Connection) -> None:
    stranger = event(EventKind.REFUSED, '{"mac":"zz"}', certificate("z"), at=NOW + MINUTE, reason="device_limit")
    tell(connection, *STORY, stranger)
    found = list(every_page(connection, DeviceFilter(refused_since=NOW)))
    assert [(one["kind"], one["identity"], one["certificate"]["serial"]) for one in found] == [
        ("claim", MAC_A, NEW_A.serial),
        ("claim", '{"mac":"zz"}', certificate("z").serial),
    ]
    assert not list(every_page(connection, DeviceFilter(refused_since=NOW + 2 * MINUTE)))
    assert [one["identity"] for one in every_page(connection, DeviceFilter())] == [MAC_A, MAC_B]
    assert not list(every_page(connection, DeviceFilter(refused_since=NOW, adopted=True)))


def test_a_list_goes_on_where_it_was(connection: Connection) -> None:
    tell(connection, *(event(identity=f'{{"n":{n}}}', of=certificate(str(n))) for n in range(600)))
    first, after = list_page(connection, DeviceFilter())
    assert after is not None
    second, after = list_page(connection, DeviceFilter(), after)
    assert (len(first), len(second)) == (500, 100)
    assert list_page(connection, DeviceFilter(), after or 0) == ([], None)


def test_adopted(connection: Connection) -> None:
    said = Adoption('{"mac":"x"}', AdoptionKind.KEY, "ab" * 32)
    tell(
        connection,
        *STORY,
        Event(NOW, EventKind.ADOPTION_NOTED, adoption=said),
        event(EventKind.ADOPTED, '{"mac":"y"}', NEW_A),
        event(EventKind.ADMITTED, '{"mac":"y"}', NEW_A),
    )
    found = list(every_page(connection, DeviceFilter(adopted=True)))
    assert [one["identity"] for one in found] == ['{"mac":"x"}', '{"mac":"y"}']
    assert found[0]["adoption"] == {"by": "key", "value": "ab" * 32}


def test_show_and_explain(connection: Connection) -> None:
    tell(connection, *STORY)
    (one,) = shown(look_up(connection, MAC_A))
    assert one["kind"] == "device"
    assert [claim["certificate"]["serial"] for claim in one["refused_with"]] == [NEW_A.serial]
    assert [entry["event"] for entry in one["history"]] == ["refused", "admitted"]
    (more,) = explained(look_up(connection, MAC_A))
    assert more["live"] is None
    assert more["explanation"]["state"] == "admitted"
    assert one.items() <= more.items()
    json.dumps(more)


def test_several_and_nothing(connection: Connection) -> None:
    tell(connection, *STORY)
    assert [one["identity"] for one in explained(look_up(connection, "192.0.2.7"))] == [MAC_A, MAC_B]
    assert shown(look_up(connection, "x")) == [{"kind": "nothing", "devices": 2, "certificates": 3}]


def test_the_report(connection: Connection) -> None:
    warned = event(EventKind.WARNED, MAC_B, B, at=NOW + MINUTE, rule="subject.CN equals mac")
    tell(connection, *STORY, warned, warned)
    first, summary = report(connection, NOW, "warn")
    assert (first["identity"], first["rule"], first["times"]) == (MAC_B, "subject.CN equals mac", 2)
    assert (summary["would_refuse"], summary["safe"], summary["devices"]) == (1, False, 2)
    (summary,) = report(connection, NOW + 2 * MINUTE, "warn")
    assert (summary["would_refuse"], summary["devices_admitted_since"]) == (0, 1)

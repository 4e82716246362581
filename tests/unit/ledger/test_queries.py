"""What operators can ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from mtls_ambassador.ledger import queries
from mtls_ambassador.ledger.database import reading, writing
from mtls_ambassador.ledger.queries import (
    DeviceFilter,
    HistoryEntry,
    HistoryFilter,
    Totals,
    device,
    every_device,
    links_of_certificate,
    links_of_identity,
    list_devices,
    list_history,
    refused_claims,
    totals,
    warned,
)
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Event, EventKind
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import MAC_A, MAC_B, MAC_C, NOW, SECOND, A, B, certificate, event

ADMITTED, REFUSED, WARNED = EventKind.ADMITTED, EventKind.REFUSED, EventKind.WARNED


@pytest.fixture
def told(connection: Connection) -> Connection:
    """A day: A is admitted, warned about and renewed; B is admitted and contested; C is refused."""
    with writing(connection):
        for number, one in enumerate(
            [
                event(WARNED, rule="cn-is-mac"),
                event(ADMITTED, mender_id="m1"),
                event(ADMITTED, MAC_B, B),
                event(REFUSED, MAC_C, certificate("c"), reason="busy", request_id="request-c", rule="limit"),
                event(EventKind.CONTESTED, MAC_B, B),
                event(WARNED, rule="cn-is-mac"),
                event(ADMITTED, of=certificate("new")),
                event(REFUSED, MAC_A, A, reason="key_superseded"),
                Event(NOW, EventKind.ADOPTION_NOTED, adoption=Adoption(MAC_C, AdoptionKind.SUBJECT, "CN=c")),
            ]
        ):
            write(connection, Event(**{name: getattr(one, name) for name in Event.__slots__} | {"at": at(number)}))
    return connection


def at(number: int) -> object:
    return NOW + number * SECOND


def test_devices_come_in_the_order_in_which_they_came(told: Connection) -> None:
    with reading(told):
        a, b, c = list_devices(told)
    assert [a.identity, b.identity, c.identity] == [MAC_A, MAC_B, MAC_C]
    assert (a.holder, a.mender_id, a.last_admitted) == (certificate("new"), "m1", at(6))
    assert (a.last_refused, a.last_reason, a.last_address) == (at(7), "key_superseded", "192.0.2.7:4711")
    assert (b.contested, b.last_refused, b.adoption) == (at(4), None, None)
    assert (c.holder, c.adoption) == (None, Adoption(MAC_C, AdoptionKind.SUBJECT, "CN=c"))


@pytest.mark.parametrize(
    ("which", "identities"),
    [
        (DeviceFilter(refused_since=NOW), [MAC_A]),
        (DeviceFilter(refused_since=NOW + 8 * SECOND), []),
        (DeviceFilter(contested_since=NOW), [MAC_B]),
        (DeviceFilter(warned_since=NOW + SECOND), [MAC_A]),
        (DeviceFilter(warned_since=NOW + 6 * SECOND), []),
        (DeviceFilter(contested_since=NOW, refused_since=NOW), []),
    ],
)
def test_devices_that_something_happened_to(told: Connection, which: DeviceFilter, identities: list[str]) -> None:
    with reading(told):
        assert [found.identity for found in list_devices(told, which)] == identities


def test_a_large_fleet_comes_page_by_page(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries.list_devices, "__kwdefaults__", {"after": 0, "limit": 7})
    identities = [f'{{"n":{number}}}' for number in range(30)]
    with writing(connection):
        for number, identity in enumerate(identities):
            write(connection, event(identity=identity, of=certificate(str(number))))
    with reading(connection):
        assert [found.identity for found in every_device(connection)] == identities


def test_one_device(told: Connection) -> None:
    with reading(told):
        found = device(told, MAC_B)
        assert found is not None
        assert found.holder == B
        assert device(told, '{"mac":"none"}') is None


def test_the_certificates_of_a_device_the_latest_first(told: Connection) -> None:
    with reading(told):
        now, before = links_of_identity(told, MAC_A)
        (its,) = links_of_certificate(told, A.fingerprint)
    assert (now.certificate, now.superseded, now.last_admitted) == (certificate("new"), False, at(6))
    assert (before.certificate, before.superseded, before.auth_key) == (A, True, A.key)
    assert its == before


def test_who_was_refused_with_what(told: Connection) -> None:
    with reading(told):
        (by_identity,) = refused_claims(told, identity=MAC_C)
        (by_certificate,) = refused_claims(told, fingerprint=certificate("c").fingerprint)
        assert len(refused_claims(told)) == 2
    assert by_identity == by_certificate
    assert (by_identity.identity, by_identity.last_reason) == (MAC_C, "busy")


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        (HistoryFilter(), [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (HistoryFilter(identity=MAC_A), [8, 7, 6, 2, 1]),
        (HistoryFilter(identity=MAC_C), [9, 4]),
        (HistoryFilter(fingerprint=B.fingerprint), [5, 3]),
        (HistoryFilter(fingerprint="ab" * 32), []),
        (HistoryFilter(kinds=(WARNED, REFUSED)), [8, 6, 4, 1]),
        (HistoryFilter(reason="busy"), [4]),
        (HistoryFilter(rule="cn-is-mac"), [6, 1]),
        (HistoryFilter(request_id="request-c"), [4]),
        (HistoryFilter(since=NOW + 7 * SECOND), [9, 8]),
        (HistoryFilter(until=NOW + SECOND), [1]),
        (HistoryFilter(identity=MAC_A, kinds=(REFUSED,)), [8]),
    ],
)
def test_history_is_told_the_latest_first(told: Connection, which: HistoryFilter, numbers: list[int]) -> None:
    with reading(told):
        entries = list_history(told, which)
        assert [entry.number for entry in entries] == numbers
        pages, before = list[HistoryEntry](), None
        while page := list_history(told, which, before=before, limit=2):
            pages += page
            before = page[-1].number
        assert tuple(pages) == entries


def test_an_entry_has_all_that_was_said(told: Connection) -> None:
    with reading(told):
        (entry,) = list_history(told, HistoryFilter(reason="busy"))
    assert (entry.at, entry.kind, entry.identity, entry.certificate) == (at(3), REFUSED, MAC_C, certificate("c"))
    assert (entry.rule, entry.request_id, entry.auth_key, entry.left_out) == ("limit", "request-c", None, 0)


def test_what_a_rule_would_have_refused(told: Connection) -> None:
    with writing(told):
        write(told, event(WARNED, MAC_B, B, rule="cn-is-mac", at=NOW + 9 * SECOND), 40)
    with reading(told):
        often, seldom = warned(told, NOW)
        assert warned(told, NOW + 10 * SECOND) == ()
    assert (often.rule, often.identity, often.times) == ("cn-is-mac", MAC_B, 41)
    assert (seldom.identity, seldom.times, seldom.first, seldom.last) == (MAC_A, 2, at(0), at(5))


@pytest.mark.parametrize(("fill", "expected"), [(False, Totals(0, 0, 0)), (True, Totals(1, 1, 2))])
def test_how_much_there_is(connection: Connection, fill: bool, expected: Totals) -> None:
    with writing(connection):
        for _ in range(2 if fill else 0):
            write(connection, event())
    count: Callable[[Connection], Totals] = totals
    with reading(connection):
        assert count(connection) == expected

"""What operators can ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from mtls_ambassador.ledger import queries
from mtls_ambassador.ledger.database import reading, writing
from mtls_ambassador.ledger.queries import (
    DeviceFilter,
    HistoryFilter,
    Totals,
    device,
    every_device,
    links_of_certificate,
    links_of_identity,
    list_devices,
    list_history,
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
    # That it was refused with its predecessor says nothing about the certificate that holds it.
    assert (a.last_refused, a.last_reason, a.last_address) == (None, None, "192.0.2.7:4711")
    assert (b.contested, b.last_refused, b.adoption) == (at(4), None, None)
    assert (c.holder, c.adoption) == (None, Adoption(MAC_C, AdoptionKind.SUBJECT, "CN=c"))


@pytest.mark.parametrize(
    ("which", "identities"),
    [
        (DeviceFilter(contested_since=NOW), [MAC_B]),
        (DeviceFilter(warned_since=NOW + SECOND), [MAC_A]),
        (DeviceFilter(warned_since=NOW + 6 * SECOND), []),
        (DeviceFilter(contested_since=NOW, warned_since=NOW), []),
    ],
)
def test_devices_that_something_happened_to(told: Connection, which: DeviceFilter, identities: list[str]) -> None:
    with reading(told):
        assert [found.identity for found in list_devices(told, which)] == identities


def test_a_device_is_refused_if_its_holder_is(told: Connection) -> None:
    with writing(told):
        write(told, event(REFUSED, of=certificate("new"), at=NOW + 9 * SECOND, reason="rejected_by_operator"))
        write(told, event(REFUSED, MAC_A, B, at=NOW + 10 * SECOND, reason="certificate_has_another_identity"))
    with reading(told):
        a, b, _ = list_devices(told)
    assert (a.last_refused, a.last_reason) == (at(9), "rejected_by_operator")
    assert (b.last_refused, b.last_reason) == (None, None)


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

"""Who was refused with which identity, page by page."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from mtls_ambassador.ledger.claims import RefusedClaim, list_refused, refused_claims
from mtls_ambassador.ledger.database import reading, writing
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Certificate, EventKind
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import MAC_A, MAC_B, MAC_C, NOW, SECOND, B, certificate, event

REFUSED = EventKind.REFUSED
STRANGERS = [certificate(str(number)) for number in range(5)]


@pytest.fixture
def told(connection: Connection) -> Connection:
    """A is admitted with its identity, B refused with that; strangers are refused with one that nobody has."""
    with writing(connection):
        write(connection, event())
        write(connection, event(identity=MAC_B, of=B))
        write(connection, event(REFUSED, MAC_A, B, reason="key_change_needs_approval"))
        for number, one in enumerate(STRANGERS):
            write(connection, event(REFUSED, MAC_C, one, at=NOW + number * SECOND, reason="device_limit"))
        write(connection, event(EventKind.CONTESTED))
    return connection


def who(found: tuple[RefusedClaim, ...]) -> list[tuple[str, Certificate]]:
    return [(claim.identity, claim.certificate) for claim in found]


def test_the_refused_are_listed_and_not_whose_identity_they_claimed(told: Connection) -> None:
    with reading(told):
        first = list_refused(told, NOW, limit=3)
        second = list_refused(told, NOW, after=first[-1].number)
        assert who(list_refused(told, NOW + 4 * SECOND)) == [(MAC_C, STRANGERS[4])]
    assert who((*first, *second)) == [(MAC_A, B), *((MAC_C, one) for one in STRANGERS)]
    assert first[0].last_reason == "key_change_needs_approval"


def test_of_some_devices_only(told: Connection) -> None:
    with reading(told):
        assert who(list_refused(told, NOW, DeviceFilter(contested_since=NOW))) == [(MAC_A, B)]
        assert list_refused(told, NOW, DeviceFilter(adopted=True)) == ()


def test_who_was_refused_with_what(told: Connection) -> None:
    with reading(told):
        (by_identity,) = refused_claims(told, identity=MAC_A)
        (by_certificate,) = refused_claims(told, fingerprint=B.fingerprint)
        assert len(refused_claims(told)) == 6
    assert by_identity == by_certificate
    assert (by_identity.identity, by_identity.certificate) == (MAC_A, B)


def test_a_refusal_stands_until_the_certificate_is_admitted_with_that_identity(told: Connection) -> None:
    def claim() -> RefusedClaim:
        with reading(told):
            return refused_claims(told, fingerprint=B.fingerprint)[0]

    assert (claim().stands, claim().last_admitted) == (True, None)
    with writing(told):
        write(told, event(of=B, at=NOW + SECOND))
    assert (claim().stands, claim().last_admitted) == (False, NOW + SECOND)
    with writing(told):
        write(told, event(REFUSED, of=B, at=NOW + 2 * SECOND, reason="busy"))
    assert (claim().stands, claim().last_reason) == (True, "busy")

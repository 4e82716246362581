"""What operators tell the ledger."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from mtls_ambassador.devices.changes import (
    NothingToForgetError,
    adoption_as_answer,
    adoption_of_answer,
    exact_target,
    new_adoptions,
    noted,
    what_to_forget,
)
from mtls_ambassador.devices.manifest import read_adoption
from mtls_ambassador.ledger.queries import device, links_of_certificate
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, EventKind
from tests.unit.devices.examples import ALICE, MAC_A, MAC_B, NEW_A, NOW, STORY, A, B, event, tell

X = Adoption('{"mac":"x"}', AdoptionKind.KEY, "ab" * 32)
Y = Adoption(MAC_A, AdoptionKind.SUBJECT, "CN=y")


def test_only_what_is_new_is_noted(connection: Connection) -> None:
    tell(connection, *STORY, noted(X, NOW, ALICE))
    assert new_adoptions(connection, [X, Y]) == [Y]
    tell(connection, noted(Y, NOW, ALICE))
    assert new_adoptions(connection, [X, Y]) == []
    other = Adoption(MAC_A, AdoptionKind.SUBJECT, "CN=z")
    assert new_adoptions(connection, [other]) == [other]


def test_who_did_it_is_said(connection: Connection) -> None:
    assert noted(X, NOW, ALICE).detail == f"key {'ab' * 32}, by alice (uid 1000)"
    tell(connection, *STORY)
    assert what_to_forget(connection, MAC_A).event(NOW, ALICE).detail == "by alice (uid 1000)"


@pytest.mark.parametrize("adoption", [X, Y])
def test_an_adoption_on_its_way(adoption: Adoption) -> None:
    assert read_adoption(adoption_of_answer(adoption_as_answer(adoption))) == adoption


@pytest.mark.parametrize("query", [MAC_A, "mac=aa", "aa", "m-1"])
def test_an_identity_to_forget(connection: Connection, query: str) -> None:
    tell(connection, *STORY)
    target = what_to_forget(connection, query)
    assert (target.identity, target.certificate) == (MAC_A, None)
    assert exact_target(connection, target.as_answer()) == target
    tell(connection, target.event(NOW, ALICE))
    assert device(connection, MAC_A) is None
    with pytest.raises(NothingToForgetError):
        exact_target(connection, target.as_answer())


@pytest.mark.parametrize("query", [B.serial, B.fingerprint, "CN=device-b", "device-b"])
def test_a_certificate_to_forget(connection: Connection, query: str) -> None:
    tell(connection, *STORY)
    target = what_to_forget(connection, query)
    assert (target.identity, target.certificate) == (None, B)
    assert exact_target(connection, target.as_answer()) == target
    assert target.as_answer()["identities"] == [MAC_B]
    tell(connection, target.event(NOW, ALICE))
    assert links_of_certificate(connection, B.fingerprint) == ()


def test_what_was_only_claimed(connection: Connection) -> None:
    tell(connection, *STORY, event(EventKind.REFUSED, '{"mac":"zz"}', NEW_A))
    assert what_to_forget(connection, "mac=zz").identity == '{"mac":"zz"}'


@pytest.mark.parametrize(("query", "words"), [("nobody", "no identity and no certificate"), ("aa", "names 2 things")])
def test_what_is_not_clear(connection: Connection, query: str, words: str) -> None:
    tell(connection, *STORY, event(identity=MAC_B, of=B), event(identity='{"serial":"aa"}', of=A))
    with pytest.raises(NothingToForgetError, match=words):
        what_to_forget(connection, query)

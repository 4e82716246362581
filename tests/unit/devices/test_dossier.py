"""What a query finds, each thing once, and all that belongs to it."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from mtls_ambassador.devices.dossier import collect, find, normal_query
from mtls_ambassador.ledger.claims import RefusedClaim
from mtls_ambassador.ledger.queries import Device, SeenCertificate
from mtls_ambassador.ledger.records import EventKind
from tests.unit.devices.examples import HELD, MAC_A, MAC_B, NEW_A, STORY, A, B, event, tell


@pytest.mark.parametrize(
    "query", [MAC_A, '{ "mac": "aa" }', "mac=aa", "aa", "device-a", A.serial, A.fingerprint, "m-1"]
)
def test_a_device_by_what_is_its_own(connection: Connection, query: str) -> None:
    tell(connection, *STORY)
    (found,) = find(connection, query)
    assert isinstance(found, Device)
    dossier = collect(connection, found)
    assert [claim.certificate for claim in dossier.claims] == [NEW_A]
    assert [entry.detail for entry in dossier.refusals] == [HELD]
    assert [link.certificate for link in dossier.links] == [A]
    assert [entry.kind for entry in dossier.history] == [EventKind.REFUSED, EventKind.ADMITTED]


def test_a_certificate_that_was_only_refused(connection: Connection) -> None:
    tell(connection, *STORY)
    (found,) = find(connection, NEW_A.serial.upper())
    assert isinstance(found, SeenCertificate)
    dossier = collect(connection, found)
    assert dossier.device is not None
    assert dossier.device.holder == A
    assert [claim.identity for claim in dossier.claims] == [MAC_A]


def test_a_claim_to_what_nobody_has(connection: Connection) -> None:
    tell(connection, *STORY, event(EventKind.REFUSED, '{"mac":"zz"}', B, reason="rejected_by_operator"))
    (found,) = find(connection, "mac=zz")
    assert isinstance(found, RefusedClaim)
    assert [claim.certificate for claim in collect(connection, found).claims] == [B]
    (device,) = find(connection, MAC_B)
    assert [claim.identity for claim in collect(connection, device).elsewhere] == ['{"mac":"zz"}']


def test_several_and_nothing(connection: Connection) -> None:
    tell(connection, *STORY)
    assert len(find(connection, "192.0.2.7")) == 2
    assert find(connection, "nobody") == ()
    assert find(connection, " ") == ()


@pytest.mark.parametrize(
    ("query", "normal"), [(' {"b":1.0,"a":2} ', '{"a":2,"b":1}'), ("{", "{"), ("aa ", "aa"), ("\udcff", "?")]
)
def test_normal_query(query: str, normal: str) -> None:
    assert normal_query(query) == normal


def test_what_a_devices_certificate_did_without_claiming_an_identity_is_its_history(connection: Connection) -> None:
    forged = event(EventKind.REFUSED, None, A, reason="token_of_unknown_key")
    strangers = event(EventKind.REFUSED, None, NEW_A, reason="token_of_unknown_key")
    tell(connection, *STORY, forged, strangers)
    (found,) = find(connection, "mac=aa")
    assert [entry.reason for entry in collect(connection, found).history] == [
        "token_of_unknown_key",
        "key_change_needs_approval",
        None,
    ]

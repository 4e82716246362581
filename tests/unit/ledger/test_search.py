"""A device is found by whatever a person has at hand."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from mtls_ambassador.ledger.database import reading, writing
from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.ledger.search import Found, is_subject, names, search
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import certificate, event

IDENTITY = '{"mac":"52:54:00:00:00:01","rack":7,"who":"R\\u0026D, \\"x\\""}'
OTHER = '{"mac":"52:54:00:00:00:011"}'
STRANGE = '{"mac":"52:54:00:99:99:99"}'
HOLDER = certificate("holder", subject="CN=Device-1,OU=a\\,b+UID=7,O=ACME", serial="00ab12", key="k")
BESIDE = certificate("beside", subject="CN=Device-11,O=ACME", serial="ab1200")
STRANGER = certificate("stranger", subject="CN=stranger", serial="77")


@pytest.fixture
def told(connection: Connection) -> Connection:
    with writing(connection):
        write(connection, event(identity=IDENTITY, of=HOLDER, mender_id="mender-1", address="192.0.2.1:50"))
        write(connection, event(identity=OTHER, of=BESIDE, mender_id="mender-2", address="[2001:db8::1]:50"))
        write(connection, event(EventKind.REFUSED, STRANGE, STRANGER, address="192.0.2.11:51", reason="busy"))
    return connection


def found(connection: Connection, text: str) -> Found:
    with reading(connection):
        return search(connection, text)


@pytest.mark.parametrize(
    "text",
    [
        IDENTITY,
        "mac=52:54:00:00:00:01",
        "MAC=52:54:00:00:00:01",
        "52:54:00:00:00:01",
        "rack=7",
        'R&D, "x"',
        "mender-1",
        "192.0.2.1",
        "192.0.2.1:50",
        "Device-1",
        "device-1",
        "CN=Device-1",
        "uid=7",
        "OU=a\\,b",
        HOLDER.subject,
        HOLDER.fingerprint,
        HOLDER.fingerprint.upper(),
        ":".join(HOLDER.fingerprint[at : at + 2] for at in range(0, 64, 2)),
        HOLDER.key,
        "00ab12",
        "AB12",
        "0:ab:12",
        " ab12 ",
    ],
)
def test_a_device_is_found(told: Connection, text: str) -> None:
    assert [device.identity for device in found(told, text).devices] == [IDENTITY]


@pytest.mark.parametrize(
    "text",
    ["", "52:54", "mac=", "Device", "mender", "192.0.2", "%", "_", "ab", "mac", "{", "\0", "'; DROP TABLE x", "ä"],
)
def test_nothing_is_found_by_half_of_it(told: Connection, text: str) -> None:
    assert found(told, text) == Found((), (), ())


def test_an_ipv6_address(told: Connection) -> None:
    assert [device.identity for device in found(told, "2001:db8::1").devices] == [OTHER]


def test_what_several_have_in_common_finds_them_all(told: Connection) -> None:
    assert [device.identity for device in found(told, "o=acme").devices] == [IDENTITY, OTHER]


@pytest.mark.parametrize("text", ["stranger", "77", "192.0.2.11", STRANGER.key])
def test_a_certificate_that_was_only_refused(told: Connection, text: str) -> None:
    result = found(told, text)
    assert result.devices == ()
    assert [(seen.certificate, seen.last_reason) for seen in result.certificates] == [(STRANGER, "busy")]


@pytest.mark.parametrize("text", [STRANGE, "mac=52:54:00:99:99:99", "52:54:00:99:99:99"])
def test_an_identity_that_was_claimed_in_vain(told: Connection, text: str) -> None:
    result = found(told, text)
    assert result.devices == ()
    (claim,) = result.claims
    assert (claim.identity, claim.certificate, claim.last_reason) == (STRANGE, STRANGER, "busy")


def test_a_predecessor_leads_to_the_device(told: Connection) -> None:
    renewed = certificate("renewed", subject="CN=renewed")
    with writing(told):
        write(told, event(identity=IDENTITY, of=renewed))
    result = found(told, HOLDER.serial)
    assert [device.holder for device in result.devices] == [renewed]
    assert [seen.certificate for seen in result.certificates] == [HOLDER]


@pytest.mark.parametrize(
    ("identity", "text", "expected"),
    [
        ('{"a":{"b":[1,2]}}', 'a={"b":[1,2]}', True),
        ('{"a":true}', "a=true", True),
        ('{"a":"true"}', "true", True),
        ('{"a":"x"}', "b=x", False),
        ('{"mac":"cut off in the mid', "cut off in", True),
        ("[1]", "1", False),
    ],
)
def test_attributes(identity: str, text: str, expected: bool) -> None:
    assert names(identity, text) is expected


def test_subjects() -> None:
    assert is_subject("CN=a\\,b,O=x", "a\\,b")
    assert not is_subject("CN=a\\,b,O=x", "b")
    assert not is_subject("O=x", "x")

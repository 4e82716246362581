"""`pki.conflicts`: whose subjects and keys are not to be had."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mtls_ambassador.pki import conflicts
from mtls_ambassador.pki.conflicts import ConflictError
from mtls_ambassador.pki.entries import Entry, Kind, Reason, Revocation, Status

NOW = datetime(2030, 5, 17, tzinfo=UTC)
DEVICE = Entry("0a", Kind.DEVICE, "CN=dev-1", "key", "print", NOW, NOW + timedelta(days=9), "device-cert.pem", b"")
NEW = replace(DEVICE, serial="0b")
OTHER = replace(NEW, subject="CN=dev-2")


def revoked(entry: Entry, reason: Reason = Reason.UNSPECIFIED) -> Entry:
    return replace(entry, status=Status.REVOKED, revocation=Revocation(entry.serial, NOW, reason))


EXPIRED = replace(DEVICE, not_after=NOW)


@pytest.mark.parametrize("reason", [Reason.KEY_COMPROMISE, Reason.CA_COMPROMISE, Reason.AA_COMPROMISE])
@pytest.mark.parametrize("new", [NEW, OTHER, replace(NEW, kind=Kind.SERVER), replace(NEW, kind=Kind.INTERMEDIATE)])
def test_a_compromised_key_is_good_for_nothing_any_more(reason: Reason, new: Entry) -> None:
    with pytest.raises(ConflictError, match=f"revoked for {reason}") as caught:
        conflicts.require_sound_key(new, [DEVICE, revoked(DEVICE, reason)])
    assert "new key" in caught.value.remedy
    with pytest.raises(ConflictError):
        conflicts.require_sound_key(new, [revoked(replace(DEVICE, not_after=NOW - timedelta(days=900)), reason)])


@pytest.mark.parametrize("reason", sorted(set(Reason) - {reason for reason in Reason if reason.is_compromise}))
def test_a_key_that_was_revoked_for_another_reason_may_be_used_again(reason: Reason) -> None:
    conflicts.require_sound_key(NEW, [revoked(DEVICE, reason)])
    conflicts.require_own_key(OTHER, [revoked(DEVICE, reason), EXPIRED], NOW)


@pytest.mark.parametrize("state", [lambda entry: entry, revoked, lambda entry: replace(entry, not_after=NOW)])
@pytest.mark.parametrize(
    ("kind", "old", "refused"),
    [
        (Kind.DEVICE, Kind.SERVER, True),
        (Kind.DEVICE, Kind.ROOT, True),
        (Kind.DEVICE, Kind.INTERMEDIATE, True),
        (Kind.SERVER, Kind.INTERMEDIATE, True),
        (Kind.SERVER, Kind.SERVER, False),
        (Kind.ROOT, Kind.INTERMEDIATE, False),
        (Kind.DEVICE, Kind.DEVICE, False),
    ],
)
def test_a_key_of_a_ca_or_a_server_never_becomes_a_devices(
    kind: Kind, old: Kind, *, refused: bool, state: object
) -> None:
    assert callable(state)
    others = [state(replace(DEVICE, kind=old))]
    if not refused:
        conflicts.require_sound_key(replace(NEW, kind=kind), others)
        return
    with pytest.raises(ConflictError, match="has the key of"):
        conflicts.require_sound_key(replace(NEW, kind=kind), others)


@pytest.mark.parametrize("kind", [Kind.DEVICE, Kind.SERVER])
def test_a_key_is_one_devices(kind: Kind) -> None:
    with pytest.raises(ConflictError, match=r"CN=dev-2 has the key of CN=dev-1 \(device, serial 0a\)"):
        conflicts.require_own_key(replace(OTHER, kind=kind), [DEVICE], NOW)
    conflicts.require_own_key(replace(NEW, kind=kind), [DEVICE], NOW)


def test_a_server_may_have_its_key_under_several_names() -> None:
    conflicts.require_own_key(replace(OTHER, kind=Kind.SERVER), [replace(DEVICE, kind=Kind.SERVER)], NOW)


@pytest.mark.parametrize("other", [DEVICE, replace(DEVICE, kind=Kind.SERVER), replace(DEVICE, status=Status.PENDING)])
def test_a_subject_is_somebodys_for_as_long_as_a_certificate_is_good(other: Entry) -> None:
    with pytest.raises(ConflictError, match="CN=dev-1 has a certificate already, serial 0a") as caught:
        conflicts.require_new_subject(NEW, [other], NOW)
    assert "--again" in caught.value.remedy
    conflicts.require_new_subject(NEW, [revoked(DEVICE), EXPIRED], NOW)
    conflicts.require_new_subject(NEW, [other], NOW + timedelta(days=10))


def test_no_subject_is_named_as_such() -> None:
    with pytest.raises(ConflictError, match="a certificate without a subject has the key"):
        conflicts.require_own_key(replace(NEW, subject=""), [DEVICE], NOW)

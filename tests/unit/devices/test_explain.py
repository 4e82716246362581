"""Explanations: golden texts of the stories that operators meet."""

from __future__ import annotations

from sqlalchemy import Connection

from mtls_ambassador.devices.dossier import collect, find
from mtls_ambassador.devices.explain import Explanation, Live, explain
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Event, EventKind
from tests.unit.devices.examples import HELD, MAC_A, MAC_B, MINUTE, NEW_A, NOW, STORY, A, B, event, tell
from tests.unit.ledger.examples import certificate


def explained(connection: Connection, query: str, live: Live | None = None) -> Explanation:
    (found,) = find(connection, query)
    return explain(collect(connection, found), live)


def test_a_rotation_that_was_refused(connection: Connection) -> None:
    tell(connection, *STORY)
    told = explained(connection, MAC_A)
    assert told.state == "admitted"  # its holder is; that another certificate claims it does it no harm
    assert "\n".join(told.summary) == (
        f"{MAC_A} belongs to the certificate with serial {A.serial} (CN=device-a), which was last admitted with it "
        "on 2026-06-01 at 12:00:00 UTC from 192.0.2.7:4711.\n"
        f"Certificate with serial {NEW_A.serial} (CN=board-7) was refused with it, last on 2026-06-01 at 12:01:00 UTC: "
        "key_change_needs_approval."
    )
    assert (told.reason, told.detail) == ("key_change_needs_approval", HELD)
    assert told.why == "Mender knows this identity with another key; the new one is left pending"
    assert "\n".join(told.next_steps) == (
        f"Find out whether certificate {NEW_A.serial} is that device's: re-flashed, a new board, a renewed "
        "certificate.\n"
        "If it is: accept its pending key in Mender. The device is admitted at its next try.\n"
        "Or let the edge do that, for one device or many: `mtls-ambassador devices adopt MANIFEST` with the line "
        f'{{"identity": {{"mac": "aa"}}, "fingerprint": "{NEW_A.fingerprint}"}}\n'
        f"If the certificate {A.serial} is gone for good, and the device is gone from Mender: "
        f"`mtls-ambassador devices forget '{MAC_A}'` frees the identity.\n"
        "If nobody replaced anything, another device claims this identity: reject its pending key in Mender."
    )


def test_the_refused_certificate_itself(connection: Connection) -> None:
    tell(connection, *STORY)
    told = explained(connection, NEW_A.serial)
    assert told.state == "refused"
    assert told.detail == HELD
    assert any(f"belongs to the certificate with serial {A.serial}" in text for text in told.summary)


def test_all_is_well(connection: Connection) -> None:
    tell(connection, *STORY)
    told = explained(connection, MAC_B)
    assert (told.state, told.reason, told.next_steps) == ("admitted", None, ())


def test_a_refusal_that_was_mended_is_none(connection: Connection) -> None:
    tell(connection, *STORY, event(of=NEW_A, at=NOW + 3 * MINUTE))
    told = explained(connection, MAC_A)
    assert (told.state, told.reason) == ("admitted", None)
    assert any("Before, it belonged to the certificate" in text for text in told.summary)


def test_the_holder_lives_on_beside_a_claimant(connection: Connection) -> None:
    tell(connection, *STORY, event(at=NOW + 5 * MINUTE))
    told = explained(connection, MAC_A)
    assert (told.state, told.reason) == ("admitted", "key_change_needs_approval")


def test_an_identity_is_refused_if_its_holder_is(connection: Connection) -> None:
    own = event(EventKind.REFUSED, at=NOW + 2 * MINUTE, reason="rejected_by_operator")
    tell(connection, *STORY, own)
    assert explained(connection, MAC_A).state == "refused"
    tell(connection, event(at=NOW + 3 * MINUTE))
    assert explained(connection, MAC_A).state == "admitted"


def test_an_identity_is_refused_if_its_holder_is_before_it_claims_one(connection: Connection) -> None:
    tell(connection, *STORY, event(EventKind.REFUSED, None, B, at=NOW + 3 * MINUTE, reason="malformed_request"))
    told = explained(connection, MAC_B)
    assert (told.state, told.reason) == ("refused", "malformed_request")


def test_a_very_long_identity_that_is_let_in_again(connection: Connection) -> None:
    """Of it the beginning alone is kept where it was claimed in vain."""
    name = f'{{"mac":"{"a" * 5000}"}}'
    tell(connection, event(EventKind.REFUSED, name, reason="busy"), event(identity=name, at=NOW + MINUTE))
    told = explained(connection, A.serial)
    assert (told.state, told.reason) == ("admitted", None)


def test_another_identity_of_its_certificate(connection: Connection) -> None:
    reason = "certificate_has_another_identity"
    tell(connection, *STORY, event(EventKind.REFUSED, '{"mac":"zz"}', B, at=NOW + 3 * MINUTE, reason=reason))
    told = explained(connection, '{"mac":"zz"}')
    assert (told.state, told.reason) == ("refused", reason)
    assert f"devices forget {B.serial}`" in told.next_steps[0]
    assert any('refused as {"mac":"zz"}, too' in text for text in explained(connection, MAC_B).summary)


def test_adopted_and_not_there_yet(connection: Connection) -> None:
    said = Adoption(MAC_A, AdoptionKind.SUBJECT, "CN=x")
    tell(connection, Event(NOW, EventKind.ADOPTION_NOTED, identity=MAC_A, adoption=said))
    thief = event(EventKind.REFUSED, of=B, at=NOW + MINUTE, reason="key_change_needs_approval")
    tell(connection, thief)
    told = explained(connection, MAC_A)
    assert told.state == "expected"
    awaited = event(EventKind.REFUSED, of=certificate("x", subject="CN=x"), at=NOW + MINUTE, reason="device_limit")
    tell(connection, awaited)
    assert explained(connection, MAC_A).state == "refused"
    assert "An operator gave it to the certificate with subject CN=x (devices adopt)." in told.summary


def test_forgotten(connection: Connection) -> None:
    tell(connection, *STORY, Event(NOW + 4 * MINUTE, EventKind.FORGOTTEN, certificate=B))
    told = explained(connection, MAC_B)
    assert told.state == "free"
    thief = event(EventKind.REFUSED, MAC_B, A, at=NOW + 5 * MINUTE, reason="certificate_has_another_identity")
    tell(connection, thief)
    assert explained(connection, MAC_B).state == "free"
    assert told.summary[0].startswith(f"Nobody holds {MAC_B}: its certificate was forgotten.")


def test_a_reason_of_another_version_and_no_detail(connection: Connection) -> None:
    tell(connection, event(EventKind.REFUSED, reason="not_invented_yet"))
    told = explained(connection, MAC_A)
    assert (told.state, told.reason, told.why, told.next_steps) == ("refused", "not_invented_yet", None, ())


def test_what_only_a_running_edge_knows(connection: Connection) -> None:
    tell(connection, *STORY)
    told = explained(connection, MAC_B, Live(contested=True, remembered=True, ledger="slow"))
    assert told.state == "contested"
    assert [text.split(":")[0] for text in told.summary[-3:]] == [
        "At this moment several keys claim it by turns",
        "The edge admitted its holder within the last hour",
        "The edge's ledger is slow",
    ]

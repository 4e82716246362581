"""What the ledger says about a claim after whatever happened, by example and beside a model in memory."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete

from mtls_ambassador.admission.standing import Ground, Terms, stand
from mtls_ambassador.ledger.database import reading, writing
from mtls_ambassador.ledger.facts import MOST_OTHERS, read_facts
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Certificate, Claim, Event, EventKind, Facts, Holder
from mtls_ambassador.ledger.schema import metadata
from mtls_ambassador.ledger.writes import CLAIMS_KEPT, write
from tests.unit.ledger.examples import (
    MAC_A,
    MAC_B,
    MAC_C,
    NOW,
    SECOND,
    A,
    B,
    certificate,
    claim,
    event,
    sha256,
)

ADMITTED, REFUSED, FORGOTTEN = EventKind.ADMITTED, EventKind.REFUSED, EventKind.FORGOTTEN


def facts(connection: Connection, events: list[Event], about: Claim) -> Facts:
    with writing(connection):
        for one in events:
            write(connection, one)
    with reading(connection):
        return read_facts(connection, about)


def test_nothing_is_known_of_a_stranger(connection: Connection) -> None:
    assert facts(connection, [], claim()) == Facts()


def test_who_was_admitted_is_known_and_holds_the_identity(connection: Connection) -> None:
    found = facts(connection, [event(mender_id="m1")], claim())
    assert found == Facts(known=True, holder=Holder(A, "m1", NOW))


@pytest.mark.parametrize(
    "about", [claim(of=B), claim(MAC_B), claim(auth_key=sha256("another key"))], ids=["certificate", "identity", "key"]
)
def test_only_the_very_same_is_known(connection: Connection, about: Claim) -> None:
    assert not facts(connection, [event()], about).known


def test_a_new_certificate_takes_the_place_of_the_one_before(connection: Connection) -> None:
    events = [event(mender_id="m1"), event(of=B, at=NOW + SECOND)]
    assert facts(connection, events, claim(of=B)) == Facts(known=True, holder=Holder(B, "m1", NOW + SECOND))
    assert not facts(connection, [], claim()).known


def test_the_old_one_is_known_again_once_it_is_admitted_again(connection: Connection) -> None:
    events = [event(), event(of=B, at=NOW + SECOND), event(at=NOW + 2 * SECOND)]
    assert facts(connection, events, claim()) == Facts(known=True, holder=Holder(A, None, NOW + 2 * SECOND))
    assert not facts(connection, [], claim(of=B)).known


def test_another_auth_key_of_one_certificate_supersedes_none(connection: Connection) -> None:
    other = sha256("another key")
    events = [event(), event(auth_key=other, at=NOW + SECOND)]
    assert facts(connection, events, claim()).known
    assert facts(connection, [], claim(auth_key=other)).known


def test_what_another_node_wrote_late_takes_nothing_over(connection: Connection) -> None:
    events = [event(of=B, at=NOW + SECOND), event(at=NOW)]
    found = facts(connection, events, claim())
    assert found.holder == Holder(B, None, NOW + SECOND)
    assert not found.known
    assert facts(connection, [], claim(of=B)).known


def test_a_clock_that_was_in_the_future_does_not_hold_an_identity_for_ever(connection: Connection) -> None:
    events = [event(at=NOW + dt.timedelta(days=4000)), event(of=B)]
    assert facts(connection, events, claim(of=B)) == Facts(known=True, holder=Holder(B, None, NOW))


def test_menders_id_stays_until_it_is_another(connection: Connection) -> None:
    events = [event(mender_id="m1"), event(at=NOW + SECOND)]
    assert facts(connection, events, claim()).holder == Holder(A, "m1", NOW + SECOND)
    assert facts(connection, [event(mender_id="m2")], claim()).holder == Holder(A, "m2", NOW)


@pytest.mark.parametrize(
    "of", [A, certificate("renewed", key="a")], ids=["the same certificate", "another of the same key"]
)
def test_an_identity_that_a_certificate_or_its_key_holds(connection: Connection, of: Certificate) -> None:
    assert facts(connection, [event()], claim(MAC_B, of)).other_identities == (MAC_A,)
    assert facts(connection, [], claim(MAC_A, of)).other_identities == ()


def test_an_identity_that_was_taken_over_stays_the_only_one_of_the_certificate(connection: Connection) -> None:
    """Else a retired key, or whoever was put out of an identity that is not his, could go on to the next."""
    assert facts(connection, [event(), event(of=B, at=NOW + SECOND)], claim(MAC_B)).other_identities == (MAC_A,)


def test_what_is_preauthorised_is_the_certificates_from_then_on(connection: Connection) -> None:
    found = facts(connection, [event(EventKind.PREAUTHORISED)], claim())
    assert (found.known, found.holder) == (True, Holder(A, None, NOW))
    assert facts(connection, [], claim(MAC_B)).other_identities == (MAC_A,)


def test_a_predecessors_thief_does_not_spoil_the_subject(connection: Connection) -> None:
    later = certificate("later", subject=A.subject)
    events = [event(), event(of=later, at=NOW + SECOND), event(REFUSED, MAC_B, A)]
    assert not facts(connection, events, claim(MAC_A, certificate("latest", subject=A.subject))).subject_is_shared
    assert facts(connection, [], claim(MAC_C, certificate("latest", subject=A.subject))).subject_is_shared


@pytest.mark.parametrize("seen_again", range(6))
def test_a_subject_stays_shared_while_its_fleet_moves_to_another_anchor(
    connection: Connection, seen_again: int
) -> None:
    """However many of it came since: what an anchor is called says nothing about who shares a subject."""
    fleet = [replace(certificate(str(number), subject="CN=fleet"), anchor="plant-1") for number in range(5)]
    identities = [f'{{"mac":"{number}"}}' for number in range(5)]
    before = [event(identity=identity, of=one) for identity, one in zip(identities, fleet, strict=True)]
    after = [
        replace(one, at=NOW + SECOND, certificate=replace(of, anchor="plant-2"))
        for one, of in zip(before, fleet, strict=True)
    ]
    thief = replace(certificate("thief", subject="CN=fleet"), anchor="plant-2", not_before=NOW)
    known = facts(connection, before + after[:seen_again], claim(identities[0], thief))
    assert known.subject_is_shared
    assert stand(claim(identities[0], thief), known, Terms(), NOW).ground is Ground.HELD


def test_a_moved_device_rotates_once_its_certificate_was_seen_at_its_new_anchor(connection: Connection) -> None:
    moved = replace(A, anchor="plant-2")
    renewed = replace(certificate("renewed", subject=A.subject), anchor="plant-2", not_before=NOW)
    before = facts(connection, [event()], claim(of=renewed))
    assert stand(claim(of=renewed), before, Terms(), NOW).ground is Ground.HELD
    assert facts(connection, [], claim(of=moved)).known
    after = facts(connection, [event(of=moved, at=NOW + SECOND)], claim(of=renewed))
    assert stand(claim(of=renewed), after, Terms(), NOW).ground is Ground.ROTATION


def test_of_many_other_identities_a_few_are_told(connection: Connection) -> None:
    events = [event(identity=f'{{"mac":"{number}"}}') for number in range(20)]
    found = facts(connection, events, claim()).other_identities
    assert len(set(found)) == MOST_OTHERS
    assert set(found) <= {one.identity for one in events}


SAME_SUBJECT = certificate("same", subject=A.subject)


@pytest.mark.parametrize("kind", [ADMITTED, REFUSED])
def test_a_subject_is_shared_by_who_was_seen_with_another_identity(connection: Connection, kind: EventKind) -> None:
    found = facts(connection, [event(kind, MAC_B, SAME_SUBJECT)], claim())
    assert found.subject_is_shared
    assert found.holder is None


@pytest.mark.parametrize("kind", [ADMITTED, REFUSED])
@pytest.mark.parametrize(
    ("identity", "of"),
    [
        (MAC_A, SAME_SUBJECT),
        (MAC_B, B),
        (MAC_B, certificate("x", subject=A.subject, issuer="CN=Other CA")),
        (MAC_B, certificate("x", subject="CN=My CA", issuer=A.subject)),
    ],
    ids=["this identity", "another subject", "another issuer", "exchanged"],
)
def test_a_subject_is_not_shared(connection: Connection, kind: EventKind, identity: str, of: Certificate) -> None:
    assert not facts(connection, [event(kind, identity, of)], claim()).subject_is_shared


def test_a_subject_stays_shared_when_its_identity_was_taken_over(connection: Connection) -> None:
    events = [event(ADMITTED, MAC_B, SAME_SUBJECT), event(ADMITTED, MAC_B, B, at=NOW + SECOND)]
    assert facts(connection, events, claim()).subject_is_shared


def test_whichever_identities_were_claimed_another_one_is_known_of(connection: Connection) -> None:
    identities = [f'{{"mac":"{number}"}}' for number in range(9)]
    events = [event(REFUSED, identity, at=NOW + number * SECOND) for number, identity in enumerate(identities)]
    for identity in identities:
        assert facts(connection, events, claim(identity)).subject_is_shared


def test_a_refusal_makes_nobody_a_holder_and_takes_nothing(connection: Connection) -> None:
    events = [event(), event(REFUSED, of=B, at=NOW + SECOND, reason="key_change_needs_approval")]
    assert facts(connection, events, claim()) == Facts(known=True, holder=Holder(A, None, NOW))
    assert facts(connection, [], claim(of=B)) == Facts(holder=Holder(A, None, NOW))


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in EventKind
        if kind not in (ADMITTED, EventKind.PREAUTHORISED, REFUSED, FORGOTTEN, EventKind.ADOPTION_NOTED)
    ],
)
def test_other_events_are_history_only(connection: Connection, kind: EventKind) -> None:
    before = facts(connection, [event(), event(REFUSED, MAC_B, B)], claim())
    assert facts(connection, [event(kind), event(kind, MAC_B, SAME_SUBJECT)], claim()) == before


def noted(adoption: Adoption, at: dt.datetime = NOW) -> Event:
    return Event(at, EventKind.ADOPTION_NOTED, adoption=adoption)


def test_an_operators_word_is_known_before_the_device_comes(connection: Connection) -> None:
    word = Adoption(MAC_A, AdoptionKind.SUBJECT, A.subject)
    assert facts(connection, [noted(word)], claim()) == Facts(adoption=word)
    assert facts(connection, [], claim(MAC_A, B)) == Facts(adoption=word)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (AdoptionKind.SUBJECT, A.subject),
        (AdoptionKind.FINGERPRINT, A.fingerprint),
        (AdoptionKind.KEY, A.key),
    ],
)
def test_an_operators_word_has_come_true_when_the_certificate_is_admitted(
    connection: Connection, kind: AdoptionKind, value: str
) -> None:
    """From then on the identity rotates as any other: the certificate could not come back by that word."""
    word = Adoption(MAC_A, kind, value)
    assert facts(connection, [noted(word), event()], claim()) == Facts(known=True, holder=Holder(A, None, NOW))


def test_an_operators_word_outlasts_whoever_else_is_admitted(connection: Connection) -> None:
    word = Adoption(MAC_A, AdoptionKind.KEY, A.key)
    assert facts(connection, [noted(word), event(ADMITTED, MAC_A, B)], claim()).adoption == word


def test_an_auth_key_of_another_certificate_is_seen(connection: Connection) -> None:
    own = sha256("a key of its own")
    events = [event(auth_key=own)]
    assert facts(connection, events, Claim(MAC_A, B, own)).auth_key_is_anothers
    assert facts(connection, [], Claim(MAC_B, B, own)).auth_key_is_anothers
    assert not facts(connection, [], Claim(MAC_A, A, own)).auth_key_is_anothers
    assert not facts(connection, [], Claim(MAC_A, B, sha256("another"))).auth_key_is_anothers
    assert not facts(connection, [], claim(MAC_A, B)).auth_key_is_anothers


def test_an_operators_last_word_counts(connection: Connection) -> None:
    word = Adoption(MAC_A, AdoptionKind.KEY, B.key)
    events = [event(), noted(Adoption(MAC_A, AdoptionKind.SUBJECT, A.subject)), noted(word)]
    assert facts(connection, events, claim()).adoption == word
    assert facts(connection, [], claim(MAC_B)).adoption is None


def test_a_forgotten_identity_is_nobodys(connection: Connection) -> None:
    word = noted(Adoption(MAC_A, AdoptionKind.SUBJECT, A.subject))
    events = [event(), word, event(REFUSED, MAC_A, SAME_SUBJECT), event(FORGOTTEN, of=None)]
    assert facts(connection, events, claim()) == Facts()
    assert facts(connection, [], claim(MAC_B)) == Facts()


def test_a_forgotten_certificate_holds_nothing(connection: Connection) -> None:
    events = [event(), event(identity=MAC_B), event(ADMITTED, MAC_C, B), event(FORGOTTEN, None, A)]
    assert facts(connection, events, claim()) == Facts()
    assert facts(connection, [], claim(MAC_B)) == Facts()
    assert facts(connection, [], claim(MAC_C, B)).known


def test_a_certificate_and_an_identity_can_be_parted(connection: Connection) -> None:
    events = [event(), event(identity=MAC_B), event(FORGOTTEN)]
    assert facts(connection, events, claim(MAC_B)) == Facts(known=True, holder=Holder(A, None, NOW))
    assert facts(connection, [], claim()).other_identities == (MAC_B,)
    assert facts(connection, [], claim()).holder is None


def test_forgetting_what_was_never_seen_changes_nothing(connection: Connection) -> None:
    events = [event(), event(FORGOTTEN, None, B), event(FORGOTTEN, MAC_B, None), event(FORGOTTEN, None, None)]
    assert facts(connection, events, claim()).known


@dataclass
class Model:
    """The same in a few dictionaries."""

    holders: dict[str, Holder | None] = field(default_factory=dict)
    links: dict[tuple[str, Certificate, str], bool] = field(default_factory=dict)
    claims: list[tuple[Certificate, str]] = field(default_factory=list)
    adoptions: dict[str, Adoption] = field(default_factory=dict)
    mender_ids: dict[str, str] = field(default_factory=dict)

    def apply(self, one: Event) -> None:
        if one.kind is ADMITTED:
            self._admit(one)
        elif one.kind is REFUSED and one.certificate and one.identity:
            claim_of_it = (one.certificate, one.identity)
            self.claims = [*(other for other in self.claims if other != claim_of_it), claim_of_it]
            for old in [other for other in self.claims if other[0] == one.certificate][:-CLAIMS_KEPT]:
                self.claims.remove(old)
        elif one.adoption:
            self.adoptions[one.adoption.identity] = one.adoption
            self.holders.setdefault(one.adoption.identity, None)
        elif one.kind is FORGOTTEN:
            self._forget(one)

    def _admit(self, one: Event) -> None:
        assert one.identity
        assert one.certificate
        assert one.auth_key
        before = self.holders.get(one.identity)
        mender_id = one.mender_id or self.mender_ids.get(one.identity)
        if mender_id:
            self.mender_ids[one.identity] = mender_id
        if before is not None and before.certificate != one.certificate:
            for identity, of, key in self.links:
                if identity == one.identity:
                    self.links[identity, of, key] = False
        self.links[one.identity, one.certificate, one.auth_key] = True
        self.holders[one.identity] = Holder(one.certificate, mender_id, one.at)
        word = self.adoptions.get(one.identity)
        if word is not None and word.names(one.certificate):
            del self.adoptions[one.identity]

    def _forget(self, one: Event) -> None:
        def meant(identity: str, of: Certificate) -> bool:
            return one.identity in (None, identity) and one.certificate in (None, of)

        self.links = {key: now for key, now in self.links.items() if not meant(key[0], key[1])}
        self.claims = [(of, identity) for of, identity in self.claims if not meant(identity, of)]
        if one.certificate is None and one.identity is not None:
            for known in (self.holders, self.adoptions, self.mender_ids):
                known.pop(one.identity, None)
        else:
            for identity, holder in self.holders.items():
                if holder and meant(identity, holder.certificate):
                    self.holders[identity] = None

    def facts(self, about: Claim) -> Facts:
        mine = about.certificate

        def alike(of: Certificate) -> bool:
            return (of.subject, of.issuer) == (mine.subject, mine.issuer)

        others = {identity for identity, of, _ in self.links if identity != about.identity and of.key == mine.key}
        had = {(identity, of) for identity, of, _ in self.links}
        seen = {(of, identity) for identity, of, _ in self.links} | set(self.claims)
        return Facts(
            known=self.links.get((about.identity, mine, about.auth_key), False),
            holder=self.holders.get(about.identity),
            other_identities=tuple(sorted(others)),
            subject_is_shared=any(
                alike(of) and identity != about.identity and (about.identity, of) not in had for of, identity in seen
            ),
            adoption=self.adoptions.get(about.identity),
            auth_key_is_anothers=about.auth_key != mine.key
            and any(key == about.auth_key and of.key != mine.key for _, of, key in self.links),
        )


CERTIFICATES = [
    A, B, certificate("a2", key="a"), certificate("b2", subject=A.subject), certificate("c", subject="", issuer="CN=2"),
]  # fmt: skip
IDENTITIES = [MAC_A, MAC_B, MAC_C]
KEYS = [A.key, B.key, sha256("key of its own")]


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    happened = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from([ADMITTED, ADMITTED, REFUSED, FORGOTTEN, EventKind.ADOPTION_NOTED]))
        identity, of = draw(st.sampled_from(IDENTITIES)), draw(st.sampled_from(CERTIFICATES))
        more: dict[str, Any] = {"at": NOW + number * SECOND}
        if kind is EventKind.ADOPTION_NOTED:
            happened.append(noted(Adoption(identity, draw(st.sampled_from(AdoptionKind)), of.key), more["at"]))
            continue
        if kind is FORGOTTEN:
            which = draw(st.sampled_from([(identity, None), (None, of), (identity, of)]))
            happened.append(event(kind, *which, **more))
            continue
        more["mender_id"] = draw(st.sampled_from([None, "m1", "m2"]))
        happened.append(event(kind, identity, of, auth_key=draw(st.sampled_from(KEYS)), **more))
    return happened


def test_facts_are_those_of_a_model_in_memory(connection: Connection) -> None:
    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(events())
    def compare(happened: list[Event]) -> None:
        model = Model()
        with writing(connection):
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
            for one in happened:
                model.apply(one)
                write(connection, one, one_identity_per_key=False)
        with reading(connection):
            for identity, of, key in itertools.product(IDENTITIES, CERTIFICATES, KEYS):
                found, known = (
                    read(Claim(identity, of, key)) for read in (partial(read_facts, connection), model.facts)
                )
                assert replace(found, other_identities=tuple(sorted(found.other_identities))) == known

    compare()

"""What a claim rests on: every ground, and each condition of a rotation by subject, one by one."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.standing import Ground, Rotation, Standing, Terms, require_own_identity, stand
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Certificate, Claim, Facts, Holder
from mtls_ambassador.refusals import RefusalReason

DEFAULT = Terms()
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MINE = Certificate("aa" * 32, "ab" * 32, "CN=dev-1", "CN=My CA", "01", "default", NOW, NOW + 365 * DAY)
BEFORE = replace(MINE, fingerprint="ba" * 32, key="bb" * 32, serial="02", not_before=NOW - DAY)
STRANGER = replace(BEFORE, subject="CN=dev-2")
CLAIM = Claim('{"mac":"a"}', MINE, MINE.key)
TO_ME = Adoption(CLAIM.identity, AdoptionKind.SUBJECT, MINE.subject)
TO_STRANGER = replace(TO_ME, value=STRANGER.subject)


def held_by(certificate: Certificate, **more: Any) -> Facts:
    return Facts(holder=Holder(certificate, "d-1", NOW), **more)


def ground(facts: Facts, terms: Terms = DEFAULT, claim: Claim = CLAIM) -> Ground:
    return stand(claim, facts, terms, NOW).ground


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (held_by(MINE, known=True), Ground.OWN),
        (held_by(MINE), Ground.OWN),
        (held_by(replace(MINE, fingerprint="cc" * 32, serial="03")), Ground.OWN),
        (Facts(), Ground.FREE),
        (Facts(adoption=TO_ME), Ground.ADOPTION),
        (Facts(adoption=TO_STRANGER), Ground.HELD),
        (held_by(STRANGER), Ground.HELD),
        (held_by(STRANGER, adoption=TO_ME), Ground.ADOPTION),
        (held_by(STRANGER, adoption=TO_STRANGER), Ground.HELD),
        (held_by(BEFORE), Ground.ROTATION),
        (held_by(BEFORE, adoption=TO_STRANGER), Ground.ROTATION),
        (held_by(BEFORE, subject_is_shared=True), Ground.HELD),
        (held_by(replace(BEFORE, issuer="CN=Another CA")), Ground.HELD),
        (held_by(replace(BEFORE, not_before=MINE.not_before)), Ground.HELD),
        (held_by(replace(BEFORE, not_before=MINE.not_before + DAY)), Ground.HELD),
    ],
)
def test_by_default(facts: Facts, expected: Ground) -> None:
    assert ground(facts) is expected


def test_an_empty_subject_is_the_same_as_no_other() -> None:
    claim = replace(CLAIM, certificate=replace(MINE, subject=""))
    assert ground(held_by(replace(BEFORE, subject="")), claim=claim) is Ground.HELD


def test_the_same_key_counts_only_where_it_signs_the_request() -> None:
    """With a separate authentication key, a renewed certificate says nothing about that one."""
    claim = replace(CLAIM, auth_key="dd" * 32)
    assert ground(held_by(replace(STRANGER, key=MINE.key)), claim=claim) is Ground.HELD
    assert ground(held_by(replace(STRANGER, key=MINE.key))) is Ground.OWN


@pytest.mark.parametrize("facts", [Facts(), held_by(STRANGER), held_by(BEFORE, subject_is_shared=True)])
def test_rotation_any(facts: Facts) -> None:
    assert ground(facts, Terms(Rotation.ANY)) is Ground.ROTATION


def test_an_operators_word_about_an_identity_that_nobody_has_counts_more_than_rotation_any() -> None:
    assert ground(Facts(adoption=TO_STRANGER), Terms(Rotation.ANY)) is Ground.HELD


def test_rotation_never() -> None:
    assert ground(held_by(BEFORE), Terms(Rotation.NEVER)) is Ground.HELD
    assert ground(Facts(), Terms(Rotation.NEVER)) is Ground.FREE
    assert ground(held_by(MINE), Terms(Rotation.NEVER)) is Ground.OWN


@pytest.mark.parametrize(
    ("facts", "until", "expected"),
    [
        (Facts(), NOW + DAY, Ground.ADOPT_UNTIL),
        (Facts(), NOW, Ground.FREE),
        (Facts(), NOW - DAY, Ground.FREE),
        (Facts(adoption=TO_STRANGER), NOW + DAY, Ground.HELD),
        (held_by(STRANGER), NOW + DAY, Ground.HELD),
    ],
)
def test_adopt_until(facts: Facts, until: dt.datetime, expected: Ground) -> None:
    assert ground(facts, Terms(adopt_until=until)) is expected


@pytest.mark.parametrize(
    ("ground", "claim", "take_over", "outrank"),
    [
        (Ground.OWN, True, False, True),
        (Ground.FREE, True, False, False),
        (Ground.ADOPTION, True, True, True),
        (Ground.ADOPT_UNTIL, True, True, False),
        (Ground.ROTATION, True, True, True),
        (Ground.HELD, False, False, False),
        (Ground.CONTESTED, False, False, False),
    ],
)
def test_what_a_ground_is_good_for(ground: Ground, *, claim: bool, take_over: bool, outrank: bool) -> None:
    standing = Standing(ground, "")
    assert (standing.may_claim, standing.may_take_over, standing.outranks_pending) == (claim, take_over, outrank)


def test_a_certificate_has_one_identity() -> None:
    facts = Facts(other_identities=('{"mac":"b"}',))
    with pytest.raises(Refused) as caught:
        require_own_identity(CLAIM, facts, Terms())
    assert caught.value.reason is RefusalReason.CERTIFICATE_HAS_ANOTHER_IDENTITY
    require_own_identity(CLAIM, facts, Terms(one_identity=False))
    require_own_identity(CLAIM, Facts(), Terms())


@pytest.mark.parametrize(
    "facts", [held_by(STRANGER), held_by(BEFORE, subject_is_shared=True), Facts(adoption=TO_STRANGER)]
)
def test_a_refused_claim_says_why(facts: Facts) -> None:
    why = stand(CLAIM, facts, Terms(), NOW).why
    assert "serial 02" in why or "CN=dev-2" in why

"""The admission table, over every combination of auth sets that Mender could show."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from mtls_ambassador.admission.decision import Accept, Decision, Refuse, decide
from mtls_ambassador.admission.standing import Ground, Standing
from mtls_ambassador.mender.management import AuthSet, AuthSetStatus, MenderDevice
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import spki

ACCEPTED, PENDING, PREAUTHORIZED, REJECTED, UNKNOWN = (
    AuthSetStatus.ACCEPTED,
    AuthSetStatus.PENDING,
    AuthSetStatus.PREAUTHORIZED,
    AuthSetStatus.REJECTED,
    AuthSetStatus.UNKNOWN,
)
OURS = "ours"
FREE = Standing(Ground.FREE, "nobody has it")
HELD = Standing(Ground.HELD, "it is another's")
NOON, SECOND = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), dt.timedelta(milliseconds=1)
Order = Literal["ours is the oldest", "the same moment", "another is older", "another has no time", "ours has no time"]
OWN: list[AuthSetStatus | None] = [None, *AuthSetStatus]
OTHERS = [
    combination for size in range(4) for combination in itertools.combinations_with_replacement(AuthSetStatus, size)
]


@functools.cache
def public_pem(name: str) -> str:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@functools.cache
def our_key() -> bytes:
    key = load_pem_public_key(public_pem(OURS).encode())
    assert isinstance(key, ed25519.Ed25519PublicKey)
    return spki(key)


def device(
    own: AuthSetStatus | None,
    others: Sequence[AuthSetStatus],
    *,
    at: int = 0,
    gone: bool = False,
    order: Order = "ours is the oldest",
) -> MenderDevice:
    sets = [
        AuthSet(f"other-{number}", public_pem(f"{number}"), status, time_of(number, order))
        for number, status in enumerate(others)
    ]
    if own is not None:
        sets.insert(at, AuthSet(OURS, public_pem(OURS), own, None if order == "ours has no time" else NOON))
    return MenderDevice("device", gone, tuple(sets))


def time_of(other: int, order: Order) -> dt.datetime | None:
    """When another set was made: the last of them, `other` 0, is as `order` says, the rest is younger than ours."""
    if other == 0:
        return {"the same moment": NOON, "another is older": NOON - SECOND, "another has no time": None}.get(
            order, NOON + SECOND
        )
    return NOON + SECOND


def decisions(own: AuthSetStatus | None, others: Sequence[AuthSetStatus]) -> set[Decision]:
    """The decision, wherever our set stands in the list."""
    return {decide(device(own, others, at=at), our_key(), FREE) for at in range(len(others) + 1)}


@pytest.mark.parametrize("own", OWN, ids=str)
@pytest.mark.parametrize("others", OTHERS, ids=lambda others: "+".join(others) or "alone")
def test_every_combination(own: AuthSetStatus | None, others: tuple[AuthSetStatus, ...]) -> None:
    (decision,) = decisions(own, others)
    statuses = {*others, *([own] if own else [])}
    if isinstance(decision, Accept):
        assert decision == Accept(OURS)
        assert statuses == {PENDING}, "only pending keys, ours among them"
        assert own is PENDING
        return
    reason = decision.reason
    assert (reason is RefusalReason.REJECTED_BY_OPERATOR) == (REJECTED in statuses and ACCEPTED not in statuses)
    if reason is RefusalReason.KEY_CHANGE_NEEDS_APPROVAL:
        assert own not in (ACCEPTED, PREAUTHORIZED, REJECTED)
        assert {ACCEPTED, PREAUTHORIZED} & set(others)
    elif reason is RefusalReason.KEY_SUPERSEDED:
        assert own is REJECTED
        assert ACCEPTED in others
    elif reason is RefusalReason.DEVICE_LIMIT:
        assert own is PREAUTHORIZED
    elif reason is RefusalReason.MENDER_REFUSED:
        # Mender's own answer, as there is nothing better to say.
        assert own in (None, ACCEPTED, UNKNOWN) or UNKNOWN in others
    else:
        assert reason is RefusalReason.REJECTED_BY_OPERATOR
    assert not (own is PENDING and set(others) <= {PENDING}), "this one has to be accepted"


@pytest.mark.parametrize(
    ("own", "others", "decision"),
    [
        (PENDING, [], Accept(OURS)),
        (PENDING, [PENDING, PENDING], Accept(OURS)),
        (PENDING, [ACCEPTED], Refuse(RefusalReason.KEY_CHANGE_NEEDS_APPROVAL, FREE.why)),
        (PENDING, [PREAUTHORIZED], Refuse(RefusalReason.KEY_CHANGE_NEEDS_APPROVAL, FREE.why)),
        (PENDING, [ACCEPTED, REJECTED], Refuse(RefusalReason.KEY_CHANGE_NEEDS_APPROVAL, FREE.why)),
        (None, [ACCEPTED], Refuse(RefusalReason.KEY_CHANGE_NEEDS_APPROVAL, FREE.why)),
        (PENDING, [REJECTED], Refuse(RefusalReason.REJECTED_BY_OPERATOR)),
        (PENDING, [REJECTED, PREAUTHORIZED], Refuse(RefusalReason.REJECTED_BY_OPERATOR)),
        (REJECTED, [], Refuse(RefusalReason.REJECTED_BY_OPERATOR)),
        (REJECTED, [PENDING, PREAUTHORIZED], Refuse(RefusalReason.REJECTED_BY_OPERATOR)),
        (None, [REJECTED], Refuse(RefusalReason.REJECTED_BY_OPERATOR)),
        (PREAUTHORIZED, [REJECTED], Refuse(RefusalReason.REJECTED_BY_OPERATOR)),
        (REJECTED, [ACCEPTED], Refuse(RefusalReason.KEY_SUPERSEDED)),
        (ACCEPTED, [], Refuse(RefusalReason.MENDER_REFUSED)),
        (ACCEPTED, [REJECTED], Refuse(RefusalReason.MENDER_REFUSED)),
        (PREAUTHORIZED, [], Refuse(RefusalReason.DEVICE_LIMIT)),
        (PREAUTHORIZED, [ACCEPTED], Refuse(RefusalReason.DEVICE_LIMIT)),
        (PENDING, [UNKNOWN], Refuse(RefusalReason.MENDER_REFUSED)),
        (UNKNOWN, [], Refuse(RefusalReason.MENDER_REFUSED)),
        (None, [], Refuse(RefusalReason.MENDER_REFUSED)),
        (None, [PENDING], Refuse(RefusalReason.MENDER_REFUSED)),
    ],
)
def test_rows(own: AuthSetStatus | None, others: list[AuthSetStatus], decision: Decision) -> None:
    assert decisions(own, others) == {decision}


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("size", [1, 2, 3])
def test_of_pending_keys_the_oldest_is_accepted_and_no_other(order: Order, size: int) -> None:
    """Where Mender does not say which is the oldest, or two are, the operator has to choose."""
    for at in range(size + 1):
        decision = decide(device(PENDING, [PENDING] * size, at=at, order=order), our_key(), FREE)
        if order == "ours is the oldest":
            assert decision == Accept(OURS)
        else:
            assert decision == Refuse(RefusalReason.KEY_CHANGE_NEEDS_APPROVAL, "another key came first")


def test_a_single_pending_key_needs_no_time() -> None:
    assert decide(device(PENDING, [], order="ours has no time"), our_key(), FREE) == Accept(OURS)


def test_time_never_helps_in_but_among_pending_keys() -> None:
    for own, others, order in itertools.product(OWN, OTHERS, get_args(Order)):
        decision = decide(device(own, others, order=order), our_key(), FREE)
        assert decision == decide(device(own, others), our_key(), FREE) or {own, *others} == {PENDING}


def test_no_device() -> None:
    assert decide(None, our_key(), FREE) == Refuse(RefusalReason.MENDER_REFUSED)
    assert decide(None, our_key(), HELD) == Refuse(RefusalReason.KEY_CHANGE_NEEDS_APPROVAL, HELD.why)


def test_nothing_is_touched_while_the_device_is_removed() -> None:
    for own, others in itertools.product(OWN, OTHERS):
        assert decide(device(own, others, gone=True), our_key(), FREE) == Refuse(RefusalReason.DECOMMISSIONING)


def test_keys_are_compared_by_what_they_are() -> None:
    spelled = public_pem(OURS).replace("\n", "\r\n")
    found = MenderDevice("device", decommissioning=False, auth_sets=(AuthSet(OURS, spelled, PENDING, None),))
    assert decide(found, our_key(), FREE) == Accept(OURS)


@pytest.mark.parametrize(
    "unreadable", ["", "None", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
@pytest.mark.parametrize("status", list(AuthSetStatus))
def test_key_that_cannot_be_read_is_somebody_elses(unreadable: str, status: AuthSetStatus) -> None:
    sets = (AuthSet("odd", unreadable, status, NOON), AuthSet(OURS, public_pem(OURS), PENDING, NOON - SECOND))
    decision = decide(MenderDevice("device", decommissioning=False, auth_sets=sets), our_key(), FREE)
    assert isinstance(decision, Accept) == (status is PENDING)
    if isinstance(decision, Accept):
        assert decision.auth_set_id == OURS


def test_an_ec_key_is_found_too() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    found = MenderDevice("device", decommissioning=False, auth_sets=(AuthSet(OURS, pem, PENDING, None),))
    assert decide(found, spki(key), FREE) == Accept(OURS)


@pytest.mark.parametrize("ground", [ground for ground in Ground if Standing(ground, "").may_take_over])
@pytest.mark.parametrize("others", OTHERS, ids=lambda others: "+".join(others) or "alone")
@pytest.mark.parametrize("own", OWN, ids=str)
def test_a_better_standing_changes_only_what_becomes_of_a_pending_key(
    own: AuthSetStatus | None, others: tuple[AuthSetStatus, ...], ground: Ground
) -> None:
    decision = decide(device(own, others), our_key(), Standing(ground, "why"))
    without = decide(device(own, others), our_key(), FREE)
    displaced = {ACCEPTED} if ground is Ground.ADOPT_UNTIL else {ACCEPTED, PREAUTHORIZED}
    taken_over = (
        own is PENDING
        and bool(displaced & set(others))
        and not (REJECTED in others and ACCEPTED not in others)
        and not (ground is Ground.ADOPT_UNTIL and PREAUTHORIZED in others)
    )
    if not taken_over:
        assert decision == without or isinstance(without, Refuse)
        assert isinstance(decision, Accept) == isinstance(without, Accept)
        return
    assert isinstance(decision, Accept)
    assert decision.takes_over
    assert decision.auth_set_id == OURS
    assert decision.leftovers == tuple(f"other-{n}" for n, status in enumerate(others) if status is PREAUTHORIZED)


@pytest.mark.parametrize("others", [(PREAUTHORIZED,), (PREAUTHORIZED, ACCEPTED)], ids="+".join)
def test_the_first_to_come_never_takes_the_place_of_a_preauthorised_key(others: tuple[AuthSetStatus, ...]) -> None:
    standing = Standing(Ground.ADOPT_UNTIL, "adopt_until: 2026-12-31")
    decision = decide(device(PENDING, others), our_key(), standing)
    assert isinstance(decision, Refuse)
    assert decision.reason is RefusalReason.KEY_CHANGE_NEEDS_APPROVAL
    assert "preauthorised key" in decision.why


@pytest.mark.parametrize("others", OTHERS, ids=lambda others: "+".join(others) or "alone")
@pytest.mark.parametrize("own", OWN, ids=str)
def test_what_another_has_is_never_accepted(own: AuthSetStatus | None, others: tuple[AuthSetStatus, ...]) -> None:
    assert isinstance(decide(device(own, others), our_key(), HELD), Refuse)


@pytest.mark.parametrize("ground", list(Ground))
def test_who_comes_after_another_pending_key_needs_more_than_the_first_claim(ground: Ground) -> None:
    standing = Standing(ground, "why")
    decision = decide(device(PENDING, [PENDING], order="another is older"), our_key(), standing)
    strong = ground in (Ground.OWN, Ground.ADOPTION, Ground.ROTATION)
    assert decision == (Accept(OURS) if strong else Refuse(standing.refusal, "another key came first", standing.rule))

"""When an identity counts as contested, for how long, how often that is said, and by whom it is not changed."""

from __future__ import annotations

import pytest

from mtls_ambassador.admission import contests as module
from mtls_ambassador.admission.contests import Contests
from tests.unit.mender.scripted_egress import Clock


def told(contests: Contests, keys: str, identity: str = "i", *, serious: bool = True) -> list[bool]:
    return [contests.note(identity, key, serious=serious) for key in keys]


def test_one_device_contests_nothing() -> None:
    contests = Contests(Clock())
    assert not any(told(contests, "a" * 100))
    assert not contests.contested("i")


def test_a_key_that_changes_once_contests_nothing() -> None:
    contests = Contests(Clock())
    assert not any(told(contests, "aaabbb"))
    assert not contests.contested("i")
    assert not contests.fought_over("i")


def test_two_by_turns_do() -> None:
    contests = Contests(Clock())
    assert told(contests, "ababab") == [False] * 4 + [True, False]
    assert contests.contested("i")
    assert contests.fought_over("i")
    assert not contests.contested("j")


def test_those_who_could_not_have_it_are_told_and_change_nothing() -> None:
    contests = Contests(Clock())
    assert told(contests, "ababab", serious=False) == [False] * 4 + [True, False]
    assert contests.fought_over("i")
    assert not contests.contested("i")


def test_a_holder_between_them_does_not_make_it_contested() -> None:
    contests = Contests(Clock())
    for stranger in "abcdefgh":
        contests.note("i", "holder", serious=True)
        contests.note("i", stranger, serious=False)
    assert contests.fought_over("i")
    assert not contests.contested("i")


def test_it_is_over_after_ten_quiet_minutes() -> None:
    clock = Clock()
    contests = Contests(clock)
    told(contests, "ababa")
    clock.now += 599
    assert contests.contested("i")
    clock.now += 1
    assert not contests.contested("i")


def test_slow_turns_are_no_contest() -> None:
    clock = Clock()
    contests = Contests(clock)
    for key in "ab" * 20:
        assert not contests.note("i", key, serious=True)
        clock.now += 200


def test_it_is_said_again_while_it_goes_on() -> None:
    clock = Clock()
    contests = Contests(clock)
    said = 0
    for number in range(1201):
        said += contests.note("i", "ab"[number % 2], serious=True)
        clock.now += 1
    assert said == 2


def test_identities_are_forgotten_in_the_order_in_which_they_were_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDENTITIES", 2)
    contests = Contests(Clock())
    told(contests, "ababa")
    told(contests, "a", "j")
    told(contests, "a", "k")
    assert not contests.contested("i")


def test_however_long_an_identity_is_it_is_kept_short() -> None:
    contests = Contests(Clock())
    contests.note("x" * 1_000_000, "a", serious=True)
    assert [len(name) for name in contests._claims] == [32]

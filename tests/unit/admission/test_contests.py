"""When an identity counts as contested, for how long, and how often that is said."""

from __future__ import annotations

import pytest

from mtls_ambassador.admission import contests as module
from mtls_ambassador.admission.contests import Contests
from tests.unit.mender.scripted_egress import Clock


def test_one_device_contests_nothing() -> None:
    contests = Contests(Clock())
    assert not any(contests.note("i", "a") for _ in range(100))
    assert not contests.contested("i")


def test_a_key_that_changes_once_contests_nothing() -> None:
    contests = Contests(Clock())
    for key in "aaabbb":
        assert not contests.note("i", key)
    assert not contests.contested("i")


def test_two_by_turns_do() -> None:
    contests = Contests(Clock())
    assert [contests.note("i", key) for key in "ababab"] == [False] * 4 + [True, False]
    assert contests.contested("i")
    assert not contests.contested("j")


def test_it_is_over_after_ten_quiet_minutes() -> None:
    clock = Clock()
    contests = Contests(clock)
    for key in "ababa":
        contests.note("i", key)
    clock.now += 599
    assert contests.contested("i")
    clock.now += 1
    assert not contests.contested("i")


def test_slow_turns_are_no_contest() -> None:
    clock = Clock()
    contests = Contests(clock)
    for key in "ab" * 20:
        assert not contests.note("i", key)
        clock.now += 200


def test_it_is_said_again_while_it_goes_on() -> None:
    clock = Clock()
    contests = Contests(clock)
    said = 0
    for number in range(1201):
        said += contests.note("i", "ab"[number % 2])
        clock.now += 1
    assert said == 2


def test_identities_are_forgotten_in_the_order_in_which_they_were_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDENTITIES", 2)
    contests = Contests(Clock())
    for key in "ababa":
        contests.note("i", key)
    contests.note("j", "a")
    contests.note("k", "a")
    assert not contests.contested("i")

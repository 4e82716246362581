"""`observe.throttle`: a burst passes, a flood does not, and what was held back is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.observe.throttle import Throttle, ThrottleEach, network


def test_a_burst_passes_and_then_as_many_as_time_allows() -> None:
    throttle = Throttle(burst=3, per_second=2)
    assert [throttle.admit(100.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert throttle.admit(100.4) is None
    assert throttle.admit(100.5) == 3
    assert throttle.admit(101.0) == 0


def test_a_pause_fills_the_burst_and_no_more() -> None:
    throttle = Throttle(burst=2, per_second=1)
    for _ in range(5):
        throttle.admit(0.0)
    assert [throttle.admit(1000.0) for _ in range(3)] == [3, 0, None]


def test_it_tells_when_the_next_one_passes() -> None:
    throttle = ThrottleEach(burst=2, per_second=0.25)
    for _ in range(3):
        throttle.admit("a", 100.0)
    assert throttle.wait("a") == 4.0
    assert throttle.admit("a", 103.0) is None
    assert throttle.wait("a") == 1.0
    assert throttle.admit("a", 104.0) is not None
    assert throttle.wait("never seen") == 0.0


def test_what_was_held_back_is_told_once() -> None:
    throttle = Throttle(burst=1, per_second=1)
    assert throttle.take() == 0
    assert [throttle.admit(0.0) for _ in range(3)] == [0, None, None]
    assert throttle.take() == 2
    assert throttle.take() == 0
    assert throttle.admit(1.0) == 0


@given(st.lists(st.floats(0, 3), max_size=200), st.integers(1, 20), st.floats(0.1, 10))
def test_nobody_is_lost(pauses: list[float], burst: int, per_second: float) -> None:
    throttle = Throttle(burst, per_second)
    now = passed = told = 0.0
    for pause in pauses:
        now += pause
        held_back = throttle.admit(now)
        if held_back is not None:
            passed, told = passed + 1, told + held_back
    assert passed + told + throttle.take() == len(pauses)
    assert passed <= burst + now * per_second + 1e-6


def test_a_noisy_peer_hides_no_other() -> None:
    throttle = ThrottleEach(burst=2, per_second=1)
    assert [throttle.admit("noisy", 0.0) for _ in range(4)] == [0, 0, None, None]
    assert throttle.admit("quiet", 0.0) == 0
    assert throttle.admit("noisy", 1.0) == 2


def test_what_was_held_back_of_all_peers_is_told_once() -> None:
    throttle = ThrottleEach(burst=1, per_second=1)
    for peer in ("a", "a", "a", "b", "b"):
        throttle.admit(peer, 0.0)
    assert throttle.take() == 3
    assert throttle.take() == 0


def test_the_peer_not_seen_for_longest_is_forgotten_but_counted() -> None:
    throttle = ThrottleEach(burst=1, per_second=0.001, peers=2)
    for peer in ("old", "old", "b", "old", "c"):  # "b" is now the oldest
        throttle.admit(peer, 0.0)
    assert throttle.admit("old", 0.0) is None
    assert throttle.admit("b", 0.0) == 0
    assert len(throttle._throttles) == 2
    assert throttle.take() == 3


@given(st.lists(st.sampled_from("abcdef"), max_size=100), st.integers(1, 4))
def test_nobody_of_many_peers_is_lost(peers: list[str], remembered: int) -> None:
    throttle = ThrottleEach(burst=1, per_second=0.5, peers=remembered)
    passed = told = 0
    for second, peer in enumerate(peers):
        held_back = throttle.admit(peer, float(second))
        if held_back is not None:
            passed, told = passed + 1, told + held_back
    assert passed + told + throttle.take() == len(peers)


def test_what_another_throttle_held_back_is_told_here() -> None:
    throttle = Throttle(burst=1, per_second=1)
    assert throttle.admit(0.0, 5) == 5
    assert throttle.admit(0.0, 7) is None
    assert throttle.admit(1.0, 1) == 9


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]:80", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("[fe80::1%eth0]:4711", "fe80::/64"),
        ("?", "?"),
    ],
)
def test_whom_an_address_stands_for(address: str, whose: str) -> None:
    assert network(address) == whose

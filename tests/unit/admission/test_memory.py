"""What was admitted lately is remembered for a while, and never more than there is room for."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.admission.memory import AdmittedLately, admission_key

HOST = "192.0.2.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_remembers_for_its_lifetime() -> None:
    clock = Clock()
    memory = AdmittedLately(10, 60, clock)
    assert b"a" not in memory
    memory.add(b"a", HOST)
    clock.now += 59.9
    assert b"a" in memory
    clock.now += 0.1
    assert b"a" not in memory
    assert len(memory) == 0


def test_every_admission_counts_anew() -> None:
    clock = Clock()
    memory = AdmittedLately(10, 60, clock)
    memory.add(b"a", HOST)
    clock.now += 50
    memory.add(b"a", HOST)
    clock.now += 50
    assert b"a" in memory
    assert len(memory) == 1


def test_what_was_admitted_longest_ago_goes_first() -> None:
    memory = AdmittedLately(2, 60, Clock())
    for key in (b"a", b"b", b"a", b"c"):
        memory.add(key, HOST)
    assert [key for key in (b"a", b"b", b"c") if key in memory] == [b"a", b"c"]


def test_forgets_what_it_is_told_to() -> None:
    memory = AdmittedLately(2, 60, Clock())
    memory.add(b"a", HOST)
    memory.drop(b"a")
    memory.drop(b"never there")
    assert b"a" not in memory


def test_where_one_comes_from_is_remembered_with_him_and_for_no_longer() -> None:
    clock = Clock()
    memory = AdmittedLately(10, 60, clock)
    memory.add(b"a", "192.0.2.1")
    clock.now += 50
    assert memory.move(b"a", "192.0.2.1") is None
    assert memory.move(b"a", "192.0.2.2") == "192.0.2.1"
    assert memory.move(b"a", "192.0.2.2") is None
    clock.now += 10
    assert b"a" not in memory
    assert memory.move(b"a", "192.0.2.3") is None
    assert b"a" not in memory


def test_going_to_and_fro_is_told_a_few_times_only() -> None:
    memory = AdmittedLately(10, 60, Clock())
    memory.add(b"a", "0")
    told = [memory.move(b"a", str(number % 2)) for number in range(1, 100)]
    assert [before for before in told if before is not None] == ["0", "1"] * 5
    memory.add(b"a", "0")
    assert memory.move(b"a", "1") == "0", "entered anew, it is told again"


@given(st.lists(st.tuples(st.sampled_from("adt"), st.integers(0, 9)), max_size=60), st.integers(1, 5))
def test_is_bounded_and_holds_nothing_that_was_not_added(steps: list[tuple[str, int]], size: int) -> None:
    clock, model = Clock(), dict[bytes, float]()
    memory = AdmittedLately(size, 10, clock)
    for step, number in steps:
        key = bytes([number])
        if step == "a":
            memory.add(key, HOST)
            model[key] = clock.now + 10
        elif step == "d":
            memory.drop(key)
            model.pop(key, None)
        else:
            clock.now += number
        assert len(memory) <= size
        for candidate in map(bytes, itertools.product(range(10), repeat=1)):
            if candidate in memory:
                assert model.get(candidate, 0) > clock.now
    newest = [key for key in reversed(list(model)) if model[key] > clock.now]
    if newest and steps[-1][0] == "a":
        assert bytes([steps[-1][1]]) in memory


@given(
    *(
        st.tuples(st.text(), st.binary(min_size=32, max_size=32).map(bytes.hex), st.text("0123456789abcdef"))
        for _ in range(2)
    )
)
def test_two_admissions_have_two_keys(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (admission_key(*one) == admission_key(*other)) == (one == other)


def test_parts_do_not_run_into_each_other() -> None:
    key, other = "ab" * 32, "cd" * 32
    assert admission_key("a", key, other) != admission_key("a", other, key)
    assert len(admission_key("x" * 10000, key, "ab")) == 32

"""Flights of one identity go one after the other; the queues are bounded, for each identity and each certificate."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.flights import Flights
from mtls_ambassador.refusals import RefusalReason


class Board:
    """Starts flights that land when they are told to."""

    def __init__(self, flights: Flights) -> None:
        self.flights = flights
        self.flying: list[str] = []
        self.landed: list[str] = []
        self._clearance: dict[str, asyncio.Event] = {}

    async def start(self, name: str, identity: str = "i", certificate: str | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._fly(name, identity, certificate or name))
        await settle()
        return task

    async def land(self, name: str) -> None:
        self._clearance[name].set()
        await settle()

    async def _fly(self, name: str, identity: str, certificate: str) -> None:
        self._clearance[name] = asyncio.Event()
        async with self.flights.fly(identity, certificate):
            self.flying.append(name)
            try:
                await self._clearance[name].wait()
            finally:
                self.flying.remove(name)
        self.landed.append(name)


def assert_empty(flights: Flights) -> None:
    """Nothing is kept of flights that have landed."""
    assert (flights._queues, flights._certificates) == ({}, {})


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def assert_busy(task: asyncio.Task[None]) -> Refused:
    with pytest.raises(Refused) as caught:
        await task
    assert caught.value.reason is RefusalReason.BUSY
    assert caught.value.retry_after == 5
    return caught.value


async def test_one_at_a_time_in_their_order() -> None:
    board = Board(Flights())
    tasks = [await board.start(name) for name in "abc"]
    for name in "abc":
        assert board.flying == [name]
        await board.land(name)
    assert board.landed == ["a", "b", "c"]
    await asyncio.gather(*tasks)


async def test_identities_do_not_wait_for_each_other() -> None:
    board = Board(Flights())
    tasks = [await board.start(name, identity=name) for name in "abc"]
    assert board.flying == ["a", "b", "c"]
    for name in "cab":
        await board.land(name)
    await asyncio.gather(*tasks)
    assert_empty(board.flights)


async def test_a_certificate_claims_one_identity_at_a_time() -> None:
    board = Board(Flights())
    tasks = [await board.start(name, identity=name, certificate="same") for name in "abc"]
    for name in "abc":
        assert board.flying == [name]
        await board.land(name)
    await asyncio.gather(*tasks)
    assert_empty(board.flights)


async def test_nobody_waits_in_a_circle() -> None:
    """Two certificates, two identities, each way round, all at the same moment."""
    board = Board(Flights())
    pairs = [("c", "i"), ("d", "j"), ("c", "j"), ("d", "i")]
    tasks = [
        await board.start(f"{number}", identity=identity, certificate=certificate)
        for number, (certificate, identity) in enumerate(pairs)
    ]
    while len(board.landed) < len(pairs):
        for name in list(board.flying):
            await board.land(name)
    await asyncio.gather(*tasks)
    assert_empty(board.flights)


async def test_a_certificate_has_two_places() -> None:
    board = Board(Flights())
    tasks = [await board.start(name, certificate="flood") for name in "ab"]
    await assert_busy(await board.start("c", certificate="flood"))
    owner = await board.start("owner")
    for name in ("a", "owner", "b"):  # b waits for its own certificate, and keeps nobody else waiting meanwhile
        await board.land(name)
    assert board.landed == ["a", "owner", "b"]
    await asyncio.gather(*tasks, owner)


async def test_an_identity_has_sixteen() -> None:
    board = Board(Flights())
    tasks = [await board.start(str(number)) for number in range(16)]
    await assert_busy(await board.start("one more"))
    other = await board.start("other", identity="another")
    assert "other" in board.flying
    await board.land("0")
    tasks.append(await board.start("now there is room"))
    for task in (*tasks, other):
        task.cancel()
    await asyncio.gather(*tasks, other, return_exceptions=True)
    assert_empty(board.flights)


async def test_waiting_has_an_end() -> None:
    board = Board(Flights(longest_wait=0.01))
    first = await board.start("first")
    assert (await assert_busy(await board.start("second"))).detail == "waited too long"
    await board.land("first")
    await first
    third = await board.start("third")
    await board.land("third")
    await third
    assert_empty(board.flights)


async def test_those_who_leave_give_their_places_back() -> None:
    board = Board(Flights())
    flying = await board.start("flying", certificate="same")
    waiting = await board.start("waiting", certificate="same")
    waiting.cancel()
    await settle()
    again = await board.start("again", certificate="same")
    flying.cancel()
    await settle()
    assert board.flying == ["again"]
    await board.land("again")
    await asyncio.gather(flying, waiting, again, return_exceptions=True)
    assert_empty(board.flights)


async def test_a_flight_that_fails_lets_the_next_go() -> None:
    flights = Flights()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with flights.fly("i", "c"):
                raise ZeroDivisionError
    assert_empty(flights)


async def test_a_certificate_may_be_in_the_air_four_times_for_whatever_identities() -> None:
    flights = Flights()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(flights.board("c"))
        with pytest.raises(Refused) as caught, flights.board("c"):
            pass
        assert caught.value.reason is RefusalReason.BUSY
        with flights.board("another"):
            pass
    with flights.board("c"):
        pass
    assert not flights._in_the_air, "nothing is kept of them"


async def test_who_falls_off_leaves_no_seat_taken() -> None:
    flights = Flights(at_once=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), flights.board("c"):
            raise ZeroDivisionError
    assert not flights._in_the_air

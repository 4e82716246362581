"""The ledger as the edge uses it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from mtls_ambassador.ledger import keeper as keeping
from mtls_ambassador.ledger import ledger as facade
from mtls_ambassador.ledger.database import Database, opened_for_reading
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.ledger import ROOM, Condition, Ledger
from mtls_ambassador.ledger.queries import list_devices, list_history, totals
from mtls_ambassador.ledger.records import Event, EventKind, Facts, Holder
from mtls_ambassador.ledger.schema import certificates
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import MAC_A, NOW, A, certificate, claim, database, event
from tests.world import eventually

DAY = 86400.0
DEADLINE = 60.0


def ledger(directory: Path, **more: Any) -> Ledger:
    return Ledger(database(directory), 90 * DAY, now=lambda: NOW, **more)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writes wait until it is set."""
    opened = threading.Event()

    def slow(*arguments: Any, **more: Any) -> None:
        assert opened.wait(DEADLINE)
        write(*arguments, **more)

    monkeypatch.setattr(keeping, "write", slow)
    return opened


async def test_facts_see_what_was_recorded_just_before(directory: Path) -> None:
    async with ledger(directory) as kept:
        assert await kept.facts(claim()) == Facts()
        kept.record(event(mender_id="m1"))
        assert await kept.facts(claim()) == Facts(known=True, holder=Holder(A, "m1", NOW))
        assert kept.status.condition is Condition.OK
        assert (kept.counters.recorded, kept.counters.written, kept.counters.dropped) == (1, 1, 0)


async def test_a_new_ledger_is_made_and_is_there_at_the_next_start(tmp_path: Path) -> None:
    async with ledger(tmp_path) as kept:
        kept.record(event())
    async with ledger(tmp_path) as kept:
        assert (await kept.facts(claim())).known


async def test_a_slow_ledger_is_unavailable_and_then_is_back(
    directory: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade, "_PATIENCE", 0.05)
    monkeypatch.setattr(facade, "_SLOW", 0.01)
    async with ledger(directory) as kept:
        kept.record(event())
        with pytest.raises(LedgerUnavailable, match="within"):
            await kept.facts(claim())
        assert kept.status.condition is Condition.SLOW
        gate.set()
        monkeypatch.setattr(facade, "_PATIENCE", DEADLINE)
        assert (await kept.facts(claim())).known


async def test_a_slow_ledger_is_told_before_it_is_unavailable(directory: Path, gate: threading.Event) -> None:
    now = 1000.0
    async with ledger(directory, clock=lambda: now) as kept:
        kept.record(event())
        now += 2.0
        assert kept.status.condition is Condition.SLOW
        gate.set()
        assert (await kept.facts(claim())).known


async def test_a_full_queue_drops_and_says_so(directory: Path, gate: threading.Event) -> None:
    with capture_logs() as logged:
        async with ledger(directory, room=3) as kept:
            for _ in range(10):
                kept.record(event())
            assert (kept.counters.recorded, kept.counters.dropped) == (10, 7)
            assert kept.status.condition is Condition.FULL
            with pytest.raises(LedgerUnavailable, match="too much"):
                await kept.facts(claim())
            gate.set()
            await eventually(lambda: not kept.status.waiting, DEADLINE)
            assert (await kept.facts(claim())).known
    assert [line["log_level"] for line in logged] == ["error"]


async def test_a_ledger_that_cannot_be_opened_stops_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("")
    with capture_logs() as logged:
        async with ledger(blocked) as kept:
            assert kept.status.condition is Condition.DOWN
            assert "cannot be opened" in kept.status.text
            with pytest.raises(LedgerUnavailable, match="cannot be opened"):
                await kept.facts(claim())
            with pytest.raises(LedgerUnavailable):
                await kept.query(list_devices)
            kept.record(event())
            blocked.unlink()
            await eventually(lambda: kept.status.condition is Condition.OK, DEADLINE)
            assert (await kept.facts(claim())).known
    assert [line["log_level"] for line in logged] == ["error", "info"]


async def test_what_could_not_be_written_at_the_end_is_said(
    directory: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade, "_STALLED", 0.05)
    with capture_logs() as logged:
        async with ledger(directory) as kept:
            kept.record(event())
            kept.record(event())
    assert any(line["event"].startswith("2 events could not be written") for line in logged)
    gate.set()


class Worked:
    """A clock that only the database's work moves: so many seconds for each event."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each: float) -> None:
        self.now, self._each = 1000.0, each
        monkeypatch.setattr(keeping, "write", self._write)

    def __call__(self) -> float:
        return self.now

    def _write(self, *arguments: Any, **more: Any) -> None:
        write(*arguments, **more)
        self.now += self._each


def admissions(count: int) -> list[Event]:
    return [event(identity=f'{{"n":{number}}}', of=certificate(str(number))) for number in range(count)]


async def test_a_full_queue_is_written_at_the_end_if_the_database_is_well(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Worked(monkeypatch, each=0.002)
    with capture_logs() as logged:
        async with ledger(directory, clock=clock) as kept:
            for one in admissions(ROOM):
                kept.record(one)
            assert kept.counters.dropped == 0
    assert [line["event"] for line in logged] == ["writing to the ledger what waits"]
    with opened_for_reading(database(directory)) as connection:
        assert totals(connection).devices == ROOM


async def test_a_database_that_is_very_slow_is_not_waited_for_for_ever(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Worked(monkeypatch, each=4.0)
    with capture_logs() as logged:
        async with ledger(directory, clock=clock) as kept:
            begun = clock.now
            for one in admissions(100):
                kept.record(one)
    assert clock.now - begun >= 60.0
    assert "events could not be written" in logged[-1]["event"]
    with opened_for_reading(database(directory)) as connection:
        assert totals(connection).devices == kept.counters.written < 100


async def test_an_impatient_end_waits_for_nothing(directory: Path, gate: threading.Event) -> None:
    impatient = asyncio.Event()
    with capture_logs() as logged:
        async with ledger(directory, clock=lambda: 1000.0) as kept:
            kept.end_at_once_on(impatient)
            kept.record(event())
            asyncio.get_running_loop().call_soon(impatient.set)
    assert logged[-1]["event"].startswith("1 events could not be written")
    gate.set()


async def test_a_certificate_that_is_refused_all_the_time_does_not_fill_the_history(directory: Path) -> None:
    time = 1000.0
    async with ledger(directory, clock=lambda: time) as kept:
        for number in range(300):
            kept.record(event(EventKind.REFUSED, f'{{"n":{number}}}', reason="busy"))
        kept.record(event())
        await kept.flush()
        refused = await kept.query(lambda connection: list_history(connection, limit=2000))
        assert [entry.kind for entry in refused].count(EventKind.REFUSED) == 100
        assert refused[0].kind is EventKind.ADMITTED  # the noise hides nothing else
        time += 10.0
        kept.record(event(EventKind.REFUSED, MAC_A, reason="busy"))
        await kept.flush()
        latest = await kept.query(lambda connection: list_history(connection, limit=1))
        assert latest[0].left_out == 200
        counted = await kept.query(lambda connection: connection.execute(select(certificates.c.refusals)).scalar())
        assert counted == 301


async def test_what_was_left_out_before_it_came_here_is_counted_too(directory: Path) -> None:
    async with ledger(directory) as kept:
        kept.record(event(EventKind.REFUSED, None, left_out=7))
        kept.record(event(EventKind.REFUSED, None, None, left_out=5))
        await kept.flush()
        latest = await kept.query(lambda connection: list_history(connection, limit=2))
        assert [entry.left_out for entry in latest] == [5, 7]


async def test_a_query_does_not_wait_for_writes(directory: Path, gate: threading.Event) -> None:
    async with ledger(directory) as kept:
        kept.record(event())
        assert await asyncio.wait_for(kept.query(list_devices), DEADLINE) == ()
        gate.set()
        await kept.flush()
        (device,) = await kept.query(list_devices)
        assert device.identity == MAC_A


async def test_no_password_is_ever_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade, "_STALLED", 0.05)
    place = Database.at("postgresql://edge:hunter2@127.0.0.1:1/ledger", Path("/nowhere"))
    with capture_logs() as logged:
        async with Ledger(place, DAY) as kept:
            kept.record(event())
            assert kept.status.condition is Condition.DOWN
            with pytest.raises(LedgerUnavailable) as caught:
                await kept.facts(claim())
            said = f"{kept.status} {caught.value} {logged}"
    assert "hunter2" not in f"{said} {logged}"
    assert "refused" in said


async def test_many_ask_at_the_same_time(directory: Path) -> None:
    async with ledger(directory) as kept:
        kept.record(event())
        found = await asyncio.gather(*[kept.facts(claim()) for _ in range(50)])
        assert all(facts.known for facts in found)

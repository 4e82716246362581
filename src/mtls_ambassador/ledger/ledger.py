"""The ledger as the edge uses it: told of events without waiting, asked for facts with some seconds of patience."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from mtls_ambassador.ledger.database import Database, opened_for_reading, words
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.facts import read_facts
from mtls_ambassador.ledger.keeper import Counters, Keeper, Read, Write
from mtls_ambassador.ledger.records import Claim, Event, EventKind, Facts
from mtls_ambassador.observe.throttle import ThrottleEach

_Answer = TypeVar("_Answer")

ROOM = 10_000
"""How many events may wait: a few minutes of a database that is down, and some ten megabytes."""
MOST_HISTORY = 5_000_000
"""Rows; about 1.5 GB."""

_PATIENCE = 3.0
"""Seconds. A whole fleet that comes back at once queues some hundreds of writes before a question."""
_SLOW = 1.0
"""Seconds. Slower than this it still answers, and somebody should know before it does not."""
_FIRST_TRY = 5.0
# At the end: what waits is written for as long as the database takes it, up to a limit that a full queue stays under
# even where an event costs six milliseconds. Whoever kills the edge before loses no more than giving up would.
_STALLED, _LONGEST_END = 5.0, 60.0
_TOLD_AT_END = 250
_FULL_LATELY = 60.0
_QUERIES_AT_ONCE = 2
# What one certificate may add to the history in one kind of event.
_BURST, _PER_SECOND = 100, 0.1

_log = structlog.get_logger()


class Condition(StrEnum):
    """How the ledger is."""

    OK = "ok"
    SLOW = "slow"
    FULL = "full"
    """Events were dropped in the last minute, for want of room in the queue."""
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Status:
    """How the ledger is, for a person."""

    condition: Condition
    text: str
    waiting: int
    """Events that wait to be written."""


class Ledger:
    """What the edge has seen and decided. An async context manager; may be entered once.

    Args:
        database: Where it is kept.
        retention: How long history is kept, seconds.
        one_identity_per_key: Whether a key that comes to hold a second identity is reported.
        room: How many events may wait to be written.
        most_history: Rows of history kept at most.
        clock: Monotonic seconds.
        now: The time of the day.
    """

    def __init__(
        self,
        database: Database,
        retention: float,
        *,
        one_identity_per_key: bool = True,
        room: int = ROOM,
        most_history: int = MOST_HISTORY,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._database = database
        self._clock = clock
        self._tried = asyncio.Event()
        self._ended = asyncio.Event()
        self._impatient = asyncio.Event()
        self._keeper = Keeper(
            database,
            retention=retention,
            most_rows=most_history,
            room=room,
            now=now,
            clock=clock,
            one_identity_per_key=one_identity_per_key,
            on_first_try=lambda: self._in_loop(self._tried.set),
            on_end=lambda: self._in_loop(self._ended.set),
        )
        self._throttle = ThrottleEach(_BURST, _PER_SECOND)
        self._dropped_at: float | None = None
        self._queries = asyncio.Semaphore(_QUERIES_AT_ONCE)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        """Open it. A database that is down is told, not raised: it is tried again by itself."""
        self._loop = asyncio.get_running_loop()
        self._keeper.start()
        try:
            async with asyncio.timeout(_FIRST_TRY):
                await self._tried.wait()
        except TimeoutError:
            _log.warning("the ledger does not open at once; going on without it", ledger=str(self._database))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what waits, and say what could not be written."""
        if (waiting := self._keeper.waiting) > _TOLD_AT_END:
            _log.info("writing to the ledger what waits", waiting=waiting, at_most=f"{_LONGEST_END:g} s")
        self._keeper.stop(_STALLED, _LONGEST_END)
        ends = [asyncio.ensure_future(event.wait()) for event in (self._ended, self._impatient)]
        # A second more than the thread gives itself: if it hangs in the database, it ends with the process.
        while not any(end.done() for end in ends) and (left := self._keeper.time_left + 1) > 0:
            await asyncio.wait(ends, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        lost = self._keeper.waiting
        if lost:
            _log.error(
                f"{lost} events could not be written to the ledger and are lost",
                ledger=str(self._database),
                error=self._keeper.trouble or "it is slow",
            )

    def end_at_once_on(self, impatient: asyncio.Event) -> None:
        """At the end, give up what waits when this is set."""
        self._impatient = impatient

    def record(self, event: Event) -> None:
        """Take an event to be written soon. Never waits and never fails: what does not fit is dropped and counted."""
        self.counters.recorded += 1
        if not self._keeper.put(Write(event, self._left_out(event))):
            if self._dropped_at is None or self._clock() - self._dropped_at > _FULL_LATELY:
                _log.error(
                    "the ledger's queue is full: events are dropped",
                    ledger=str(self._database),
                    waiting=self._keeper.waiting,
                    error=self._keeper.trouble or "it is slow",
                )
            self.counters.dropped += 1
            self._dropped_at = self._clock()

    async def facts(self, claim: Claim) -> Facts:
        """What is known about a claim, with every event that was recorded here before.

        Raises:
            LedgerUnavailable: it is down, its queue is full, or it took longer than three seconds.
        """
        return await self._after_writes(lambda connection: read_facts(connection, claim), _PATIENCE)

    async def flush(self, patience: float = 60.0) -> None:
        """Wait until every event recorded here before is written.

        Raises:
            LedgerUnavailable: as `facts`, with so many seconds of patience.
        """
        await self._after_writes(_nothing, patience)

    async def query(self, ask: Callable[[Connection], _Answer]) -> _Answer:
        """Ask something that may take long, such as a list, without keeping admission waiting.

        Args:
            ask: Called in another thread, in a transaction that only reads. See `queries`.

        Raises:
            LedgerUnavailable: it is down.
        """

        def run() -> _Answer:
            try:
                with opened_for_reading(self._database) as connection:
                    return ask(connection)
            except SQLAlchemyError as error:
                raise LedgerUnavailable(f"the ledger cannot be asked: {words(error)}") from error

        async with self._queries:
            return await asyncio.to_thread(run)

    @property
    def counters(self) -> Counters:
        """What has become of the events."""
        return self._keeper.counters

    @property
    def status(self) -> Status:
        """How it is now."""
        keeper, waiting = self._keeper, self._keeper.waiting
        if keeper.trouble is not None:
            return Status(Condition.DOWN, f"{self._database}: {keeper.trouble}", waiting)
        if self._dropped_at is not None and self._clock() - self._dropped_at < _FULL_LATELY:
            return Status(Condition.FULL, f"{self._database}: {self.counters.dropped} events were dropped", waiting)
        if (delay := keeper.delay) > _SLOW:
            return Status(Condition.SLOW, f"{self._database}: a write takes {delay:.1f} s", waiting)
        return Status(Condition.OK, str(self._database), waiting)

    def _left_out(self, event: Event) -> int | None:
        """How much of its kind is not in the history; None: nor is this. One noisy certificate must not crowd it."""
        if event.certificate is None:
            return event.left_out
        peer = event.identity if event.kind is EventKind.ADMITTED else event.certificate.fingerprint
        held_back = self._throttle.admit((event.kind, peer), self._clock())
        return None if held_back is None else held_back + event.left_out

    async def _after_writes(self, ask: Callable[[Connection], _Answer], patience: float) -> _Answer:
        keeper = self._keeper
        if keeper.trouble is not None:
            raise LedgerUnavailable(f"the ledger cannot be asked: {keeper.trouble}")
        answered: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()

        def answer(value: _Answer) -> None:
            self._in_loop(lambda: None if answered.done() else answered.set_result(value))

        def fail(why: str) -> None:
            error = LedgerUnavailable(f"the ledger cannot be asked: {why}")
            self._in_loop(lambda: None if answered.done() else answered.set_exception(error))

        read = Read(
            ask,
            answer=answer,
            fail=fail,
            abandoned=answered.done,
        )
        if not keeper.put(read):
            raise LedgerUnavailable("the ledger cannot be asked: too much waits to be written to it")
        try:
            async with asyncio.timeout(patience):
                return await answered
        except TimeoutError:
            raise LedgerUnavailable(f"the ledger did not answer within {patience:g} s") from None

    def _in_loop(self, call: Callable[[], object]) -> None:
        """Call it in the event loop's thread, if there still is one."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits


def _nothing(_: Connection) -> None:
    pass

"""The one thread that owns the ledger's connection, and does everything in the order in which it was asked for."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InvalidRequestError, NotSupportedError

from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.database import Database, is_broken, open_database, reading, set_aside, words, writing
from mtls_ambassador.ledger.records import Event
from mtls_ambassador.ledger.retention import tidy
from mtls_ambassador.ledger.writes import write

BATCH = 250
"""Events in one transaction, at most."""

_LONGEST_TRANSACTION = 0.1  # seconds, by and by: others want to write, too
# At the end nobody waits for an answer, and somebody for the end; a commit may cost much more than what is in it.
_LAST_BATCH, _LONGEST_LAST_TRANSACTION = 2500, 1.0

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_TIDY_EVERY = 60.0
_LATELY = 60.0
# Of a statement that fails however often it is tried: SQLSTATE classes (data, constraint, limit exceeded).
_SQLSTATES_OF_POISON = ("22", "23", "54")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Write:
    """An event to be written."""

    event: Event
    left_out: int | None
    """As in `writes.write`."""


@dataclass(frozen=True, slots=True)
class Read:
    """A question, answered after what was asked to be written before it."""

    ask: Callable[[Connection], Any]
    answer: Callable[[Any], None] = field(repr=False)
    """Called in the keeper's thread."""
    fail: Callable[[str], None] = field(repr=False)
    """Called in the keeper's thread, with what is wrong with the ledger."""
    abandoned: Callable[[], bool]
    """Whether nobody waits any more."""


@dataclass(slots=True)
class Counters:
    """What has become of the events. Read by other threads, written by one each."""

    recorded: int = 0
    dropped: int = 0
    """For want of room in the queue."""
    written: int = 0
    failed: int = 0
    """Never to be written: no database takes them."""
    last_write_seconds: float = 0.0
    """How long the last transaction took."""


class Keeper:
    """Writes events and answers questions, and survives whatever happens to the database.

    Args:
        database: Where the ledger is.
        retention: How long history is kept, seconds.
        most_rows: Of the history.
        room: How many events may wait.
        now: The time of the day, for retention.
        clock: Monotonic seconds.
        one_identity_per_key: As in `writes.write`.
        on_first_try: Called once, when the database was opened or could not be. In the keeper's thread, as `on_end`.
        on_end: Called when the thread ends.
    """

    def __init__(
        self,
        database: Database,
        *,
        retention: float,
        most_rows: int,
        room: int,
        now: Callable[[], dt.datetime],
        clock: Callable[[], float],
        one_identity_per_key: bool,
        on_first_try: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._database = database
        self._retention = dt.timedelta(seconds=retention)
        self._most_rows = most_rows
        self._room = room
        self._now = now
        self._clock = clock
        self._one_identity_per_key = one_identity_per_key
        self._on_first_try = on_first_try
        self._on_end = on_end
        self.counters = Counters()
        self.trouble: str | None = "it is not open yet"
        """What is wrong with the database; None: nothing."""
        self._queue: deque[Write | Read] = deque()
        self._writes = 0
        self._waiting_since: float | None = None
        self._wrote_at = 0.0
        self._changed = threading.Condition()
        self._until: float | None = None
        self._patience = self._latest = 0.0
        self._connection: Connection | None = None
        self._told: str | None = None
        self._pause = _FIRST_PAUSE
        self._batch = BATCH
        self._next_tidy = 0.0
        # A thread that hangs in the database must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin; the database may be down."""
        self._thread.start()

    def stop(self, patience: float, longest: float) -> None:
        """Write what waits, then end. Does not wait for it.

        Args:
            patience: Seconds without anything written after which it ends nevertheless.
            longest: Seconds after which it ends in any case.
        """
        with self._changed:
            now = self._clock()
            self._patience, self._latest = patience, now + longest
            self._until = min(now + patience, self._latest)
            self._batch = max(self._batch, _LAST_BATCH)
            self._changed.notify()

    @property
    def time_left(self) -> float:
        """Seconds until it ends though events wait, negative if it should have; endless before `stop`."""
        return math.inf if self._until is None else self._until - self._clock()

    @property
    def waiting(self) -> int:
        """How many events wait to be written."""
        return self._writes

    @property
    def delay(self) -> float:
        """Seconds for which nothing that waits has been done, or that the last write took, if that was lately."""
        now, since = self._clock(), self._waiting_since
        lately = self.counters.last_write_seconds if now - self._wrote_at < _LATELY else 0.0
        return max(lately, 0.0 if since is None else now - since)

    def put(self, item: Write | Read) -> bool:
        """Take it, or return False for want of room (or time). Never blocks for longer than another `put` takes."""
        with self._changed:
            if self._until is not None or len(self._queue) >= self._room:
                return False
            self._queue.append(item)
            self._writes += isinstance(item, Write)
            if self._waiting_since is None:
                self._waiting_since = self._clock()
            self._changed.notify()
            return True

    def _run(self) -> None:
        try:
            while not self._is_over():
                try:
                    self._work()
                except Exception as error:  # the thread must not end, whatever it was
                    self._fall_back(error)
        finally:
            self._close()
            self._fail_reads("it is being closed")
            self._on_end()

    def _is_over(self) -> bool:
        with self._changed:
            return self._until is not None and (not self._queue or self._clock() >= self._until)

    def _work(self) -> None:
        if self._connection is None:
            self._connection = open_database(self._database)
            if not self._writes:
                self._succeed()
        writes, read = self._next()
        if writes:
            self._write(self._connection, writes)
        if read is not None and not read.abandoned():
            self._answer(self._connection, read)
        if self._until is None and self._clock() >= self._next_tidy:
            self._tidy(self._connection)

    def _next(self) -> tuple[list[Write], Read | None]:
        """What stands first in the queue: some writes, or else a read. Writes stay there until they are done."""
        with self._changed:
            if not self._queue and self._until is None:
                self._waiting_since = None
                self._changed.wait(max(0.0, self._next_tidy - self._clock()))
            writes = list[Write]()
            for item in self._queue:
                if isinstance(item, Read):
                    break
                writes.append(item)
                if len(writes) == self._batch:
                    break
            if writes or not self._queue:
                return writes, None
            self._waiting_since = self._clock()
            item = self._queue.popleft()
            return [], item if isinstance(item, Read) else None

    def _write(self, connection: Connection, writes: list[Write]) -> None:
        begun = self._clock()
        try:
            done = self._write_together(connection, writes, begun)
        except Exception as error:
            if not _is_poison(error):
                raise
            if len(writes) > 1:
                self._batch = 1  # one by one, until the one that spoils the others is out
                return
            done = 1
            self.counters.failed += 1
            _log.error(
                "an event cannot be written to the ledger and is dropped",
                event_kind=writes[0].event.kind.value,
                request_id=writes[0].event.request_id,
                error=words(error),
            )
        else:
            self.counters.written += done
            self._batch = min(BATCH if self._until is None else _LAST_BATCH, self._batch * 2)
            self._succeed()
        self._wrote_at = self._clock()
        self.counters.last_write_seconds = self._wrote_at - begun
        with self._changed:
            for _ in range(done):
                self._queue.popleft()
            self._writes -= done
            self._waiting_since = self._clock() if self._queue else None
            if self._until is not None:
                self._until = min(self._clock() + self._patience, self._latest)

    def _write_together(self, connection: Connection, writes: list[Write], begun: float) -> int:
        """Write them in one transaction, as many as its time allows; returns how many."""
        longest = _LONGEST_TRANSACTION if self._until is None else _LONGEST_LAST_TRANSACTION
        with writing(connection):
            for number, item in enumerate(writes, start=1):
                write(connection, item.event, item.left_out, one_identity_per_key=self._one_identity_per_key)
                if self._clock() - begun > longest:
                    return number
        return len(writes)

    def _answer(self, connection: Connection, read: Read) -> None:
        try:
            with reading(connection):
                answer = read.ask(connection)
        except Exception as error:
            read.fail(words(error))
            if not _is_poison(error):
                raise
            _log.error("the ledger has no answer to a question", exc_info=error)
            return
        self._succeed()
        read.answer(answer)

    def _tidy(self, connection: Connection) -> None:
        self._next_tidy = self._clock() + _TIDY_EVERY
        with writing(connection):
            if tidy(connection, before=self._now() - self._retention, most_rows=self._most_rows):
                self._next_tidy = self._clock()

    def _succeed(self) -> None:
        if self._told is not None:
            _log.info("the ledger is back", ledger=str(self._database), waiting=self._writes)
        self.trouble = self._told = None
        self._pause = _FIRST_PAUSE
        self._say_tried()

    def _fall_back(self, error: Exception) -> None:
        """Say what is wrong, let go of the connection, and wait a while; what is to be written stays in the queue."""
        self.trouble = text = words(error)
        if self._told != text:
            _log.error(
                "the ledger cannot be used",
                ledger=str(self._database),
                error=text,
                effect="devices that Mender accepts get in; others are told to come again if the ledger must be asked",
                remedy=(error.remedy if isinstance(error, Error) else "")
                or "It is tried again by itself; nothing is lost while there is room. See docs/operations/ledger.md.",
            )
        self._told = text
        self._batch = max(1, self._batch // 2)
        self._close()
        file = self._database.file
        if file is not None and isinstance(error, DBAPIError) and is_broken(error):
            with contextlib.suppress(OSError):
                set_aside(file, error.orig)
        self._fail_reads(text)
        self._say_tried()
        with self._changed:
            if self._until is None:
                self._changed.wait_for(lambda: self._until is not None, self._pause)
            else:
                self._changed.wait(min(self._pause, max(0.0, self._until - self._clock())))
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def _say_tried(self) -> None:
        say, self._on_first_try = self._on_first_try, _nothing
        say()

    def _fail_reads(self, why: str) -> None:
        with self._changed:
            reads = [item for item in self._queue if isinstance(item, Read)]
            self._queue = deque(item for item in self._queue if isinstance(item, Write))
        for read in reads:
            read.fail(why)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


def _is_poison(error: Exception) -> bool:
    """Whether it is the fault of the event or question, and trying again of no use."""
    if not isinstance(error, DBAPIError):
        return not isinstance(error, InvalidRequestError | OSError | MemoryError)
    if error.connection_invalidated:
        return False
    if isinstance(error, DataError | IntegrityError | NotSupportedError):
        return True
    state = getattr(error.orig, "sqlstate", None) or ""
    return state.startswith(_SQLSTATES_OF_POISON)


def _nothing() -> None:
    pass

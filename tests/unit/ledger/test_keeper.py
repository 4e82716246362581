"""The thread that keeps the ledger, beside databases that fail it."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DataError, InvalidRequestError, OperationalError
from structlog.testing import capture_logs

from mtls_ambassador.ledger import keeper as keeping
from mtls_ambassador.ledger.database import FILE, open_database, opened_for_reading
from mtls_ambassador.ledger.keeper import Keeper, Read, Write
from mtls_ambassador.ledger.schema import devices, history
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import NOW, SECOND, certificate, database, event

DEADLINE = 60.0


class Kept:
    """A keeper, and the means to wait for it."""

    def __init__(self, directory: Path, **more: Any) -> None:
        self.database = database(directory)
        self.tried, self.ended = threading.Event(), threading.Event()
        fields: dict[str, Any] = {
            "retention": 1000.0,
            "most_rows": 1000,
            "room": 100,
            "now": lambda: NOW,
            "clock": time.monotonic,
            "one_identity_per_key": True,
            "on_first_try": self.tried.set,
            "on_end": self.ended.set,
        }
        self.keeper = Keeper(self.database, **fields | more)

    def record(self, number: int, **more: Any) -> bool:
        return self.keeper.put(Write(event(identity=f'{{"n":{number}}}', of=certificate(str(number)), **more), 0))

    def ask(self, ask: Callable[[Connection], Any]) -> Any:
        """Answer or error, after the writes before it."""
        answered = threading.Event()
        heard: list[Any] = []

        def hear(answer: Any) -> None:
            heard.append(answer)
            answered.set()

        assert self.keeper.put(Read(ask, hear, lambda why: hear(RuntimeError(why)), lambda: False))
        assert answered.wait(DEADLINE)
        if isinstance(heard[0], RuntimeError):
            raise heard[0]
        return heard[0]

    def identities(self) -> list[str]:
        return list(self.ask(lambda connection: list(connection.execute(select(devices.c.identity)).scalars())))

    def written(self, number: int) -> None:
        deadline = time.monotonic() + DEADLINE
        while self.keeper.counters.written + self.keeper.counters.failed < number:
            assert time.monotonic() < deadline, self.keeper.counters
            time.sleep(0.01)


@contextlib.contextmanager
def kept(directory: Path, **more: Any) -> Iterator[Kept]:
    made = Kept(directory, **more)
    made.keeper.start()
    try:
        yield made
    finally:
        made.keeper.stop(DEADLINE, DEADLINE)
        assert made.ended.wait(DEADLINE)


class Faults:
    """Errors that the database shall meet, by the start of the statement."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()
        self.errors: list[Exception] = []
        self.opened = 0
        monkeypatch.setattr(keeping, "write", self._write)
        monkeypatch.setattr(keeping, "open_database", self._open)

    def _open(self, where: Any) -> Connection:
        self.opened += 1
        return open_database(where)

    def _write(self, *arguments: Any, **more: Any) -> None:
        self.at_gate.set()
        assert self.gate.wait(DEADLINE)
        if self.errors:
            raise self.errors.pop(0)
        write(*arguments, **more)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    monkeypatch.setattr(keeping, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(keeping, "_LONGEST_PAUSE", 0.05)
    return Faults(monkeypatch)


def down(text: str = "the server closed the connection") -> Exception:
    return OperationalError(None, None, sqlite3.OperationalError(text))


def test_a_question_is_answered_after_what_was_written_before_it(directory: Path) -> None:
    with kept(directory) as ledger:
        assert ledger.tried.wait(DEADLINE)
        for number in range(10):
            ledger.record(number)
        assert len(ledger.identities()) == 10
        ledger.record(10)
        assert len(ledger.identities()) == 11


def test_a_database_that_fails_for_a_while_loses_nothing_and_keeps_the_order(directory: Path, faults: Faults) -> None:
    faults.errors = [down(), down(), down("still"), down()]
    with capture_logs() as logged, kept(directory) as ledger:
        for number in range(50):
            ledger.record(number)
        ledger.written(50)
        assert ledger.identities() == [f'{{"n":{number}}}' for number in range(50)]
        assert ledger.keeper.trouble is None
    assert faults.opened == 5
    levels = [line["log_level"] for line in logged]
    assert levels == ["error", "error", "error", "info"], logged  # once for each new trouble, not for each try
    assert "the server closed the connection" in logged[0]["error"]


def test_trouble_is_known_while_it_lasts_and_questions_are_turned_down(directory: Path, faults: Faults) -> None:
    faults.gate.clear()
    faults.errors = [down()]
    with kept(directory) as ledger:
        ledger.record(1)
        assert faults.at_gate.wait(DEADLINE)
        heard: list[str] = []
        failed = threading.Event()

        def fail(why: str) -> None:
            heard.append(why)
            failed.set()

        assert ledger.keeper.put(Read(lambda _: None, lambda _: failed.set(), fail, lambda: False))
        faults.gate.set()
        assert failed.wait(DEADLINE)
        assert heard == ["the server closed the connection"]


def test_a_question_that_nobody_waits_for_is_not_asked(directory: Path) -> None:
    asked: list[int] = []
    with kept(directory) as ledger:
        assert ledger.keeper.put(Read(lambda _: asked.append(1), lambda _: None, lambda _: None, lambda: True))
        ledger.identities()
    assert asked == []


def test_a_question_without_an_answer_disturbs_nobody_else(directory: Path, faults: Faults) -> None:
    def odd(_: Connection) -> None:
        raise ValueError("no such kind")

    with capture_logs() as logged, kept(directory) as ledger:
        ledger.record(1)
        with pytest.raises(RuntimeError, match="no such kind"):
            ledger.ask(odd)
        assert ledger.keeper.trouble is None
        assert len(ledger.identities()) == 1
    assert faults.opened == 1
    assert [line["log_level"] for line in logged] == ["error"]


def test_an_event_that_can_never_be_written_is_dropped_alone(directory: Path) -> None:
    with capture_logs() as logged, kept(directory) as ledger:
        for number in range(20):
            ledger.record(number, **({"auth_key": "no digest"} if number == 7 else {}))
        ledger.written(20)
        assert ledger.identities() == [f'{{"n":{number}}}' for number in range(20) if number != 7]
        assert (ledger.keeper.counters.written, ledger.keeper.counters.failed) == (19, 1)
    (line,) = [line for line in logged if "dropped" in line["event"]]
    assert line["request_id"] == "request-1"


@pytest.mark.parametrize(
    ("error", "poison"),
    [
        (ValueError("no digest"), True),
        (DataError(None, None, Exception("too long")), True),
        (OperationalError(None, None, Exception("server gone")), False),
        (OperationalError(None, None, Exception("x"), connection_invalidated=True), False),
        (InvalidRequestError("the transaction is over"), False),
        (OSError("no room"), False),
    ],
)
def test_what_is_the_events_fault(error: Exception, poison: bool) -> None:
    assert keeping._is_poison(error) is poison


def test_there_is_room_for_so_much_and_no_more(directory: Path, faults: Faults) -> None:
    faults.gate.clear()
    with kept(directory, room=5) as ledger:
        taken = [ledger.record(number) for number in range(8)]
        assert taken == [True] * 5 + [False] * 3
        assert ledger.keeper.waiting == 5
        faults.gate.set()
        ledger.written(5)
        assert ledger.record(9)
        assert len(ledger.identities()) == 6


def test_what_waits_is_written_before_the_end(directory: Path, faults: Faults) -> None:
    faults.gate.clear()
    with kept(directory) as ledger:
        for number in range(100):
            ledger.record(number)
        ledger.keeper.stop(DEADLINE, DEADLINE)
        assert not ledger.record(100)
        faults.gate.set()
        assert ledger.ended.wait(DEADLINE)
    with opened_for_reading(ledger.database) as connection:
        assert connection.execute(select(func.count()).select_from(devices)).scalar() == 100
    assert ledger.keeper.waiting == 0


def test_the_end_comes_in_its_time_though_the_database_is_down(directory: Path, faults: Faults) -> None:
    faults.errors = [down() for _ in range(1000)]
    ledger = Kept(directory)
    ledger.keeper.start()
    ledger.record(1)
    ledger.keeper.stop(0.2, DEADLINE)
    assert ledger.ended.wait(DEADLINE)
    assert ledger.keeper.waiting == 1


def test_a_file_that_breaks_while_it_is_used_is_set_aside(directory: Path, faults: Faults) -> None:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    faults.errors = [OperationalError(None, None, error)]
    with kept(directory) as ledger:
        ledger.record(1)
        ledger.written(1)
        assert len(ledger.identities()) == 1
    assert len(list(directory.glob(f"{FILE}.corrupt-*"))) >= 1


def test_a_full_disk_loses_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(keeping, "_LONGEST_PAUSE", 0.05)
    full = True

    def small(where: Any) -> Connection:
        connection = open_database(where)
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages if full else 1_000_000}")
        connection.rollback()
        return connection

    monkeypatch.setattr(keeping, "open_database", small)
    with capture_logs() as logged, kept(directory) as ledger:
        for number in range(100):
            ledger.record(number, detail="x" * 1000)
        deadline = time.monotonic() + DEADLINE
        while "full" not in (ledger.keeper.trouble or ""):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        full = False
        ledger.written(100)
        assert len(ledger.identities()) == 100
    assert any("full" in line.get("error", "") for line in logged)
    assert ledger.keeper.counters.failed == 0


def test_old_history_goes_by_itself(directory: Path) -> None:
    now = NOW

    def tell() -> dt.datetime:
        return now

    def entries(connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(history)).scalar_one()

    with kept(directory, now=tell) as ledger:
        ledger.record(1)
        assert ledger.ask(entries) == 1
    now = NOW + 1001 * SECOND
    with kept(directory, now=tell) as ledger:
        deadline = time.monotonic() + DEADLINE
        while ledger.ask(entries):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(ledger.identities()) == 1

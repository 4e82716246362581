"""Old history goes, and what is too much of it; devices stay."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import Connection, func, insert, select

from mtls_ambassador.ledger import retention
from mtls_ambassador.ledger.database import reading, writing
from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.ledger.retention import tidy
from mtls_ambassador.ledger.schema import claims, devices, history
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import MAC_B, NOW, SECOND, B, event

MANY = 5_000_000


def count(connection: Connection, table: object = history) -> int:
    with reading(connection):
        return connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]


def tidied(connection: Connection, before: dt.datetime = NOW, most_rows: int = MANY) -> int:
    """Tidy until nothing more is to be done; returns how often."""
    for times in range(1, 100):
        with writing(connection):
            if not tidy(connection, before=before, most_rows=most_rows):
                return times
    raise AssertionError("it never ends")


def test_what_is_too_old_goes_and_the_device_stays(connection: Connection) -> None:
    with writing(connection):
        write(connection, event(at=NOW - SECOND))
        write(connection, event(EventKind.REFUSED, MAC_B, B, at=NOW - SECOND))
        write(connection, event(EventKind.REFUSED, MAC_B, B, at=NOW + SECOND))
        write(connection, event(at=NOW))
    tidied(connection)
    with reading(connection):
        assert set(connection.execute(select(history.c.at)).scalars()) == {NOW, NOW + SECOND}
    assert count(connection, devices) == 1
    assert count(connection, claims) == 1
    tidied(connection, before=NOW + 2 * SECOND)
    assert count(connection) == 0
    assert count(connection, claims) == 0
    assert count(connection, devices) == 1


def test_it_goes_a_little_at_a_time(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 7)
    with writing(connection):
        for number in range(30):
            write(connection, event(list(EventKind)[number % 3], at=NOW - SECOND))
    with writing(connection):
        assert tidy(connection, before=NOW, most_rows=MANY)
    assert count(connection) == 23
    assert tidied(connection) == 4
    assert count(connection) == 0


@pytest.mark.parametrize(("rows", "left"), [(9, 9), (10, 10), (11, 10), (64, 10)])
def test_of_too_much_the_newest_stays(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, rows: int, left: int
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 7)
    with writing(connection):
        for number in range(rows):
            write(connection, event(at=NOW + number * SECOND))
    tidied(connection, most_rows=10)
    kept = list(connection.execute(select(history.c.at).order_by(history.c.id)).scalars())
    assert kept == [NOW + number * SECOND for number in range(rows - left, rows)]


def test_numbers_that_were_never_used_do_not_keep_it_from_ending(connection: Connection) -> None:
    with writing(connection):
        write(connection, event())
        entry = connection.execute(select(history)).one()._asdict()
        connection.execute(insert(history), entry | {"id": 1_000_000})
    assert tidied(connection, most_rows=10) < 99
    assert count(connection) == 1

"""Opening the ledger's file: private, made when it is not there, set aside when it is broken."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from mtls_ambassador.ledger import database as opening
from mtls_ambassador.ledger.database import (
    FILE,
    Database,
    is_broken,
    open_database,
    opened_for_reading,
    reading,
    writing,
)
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.schema import devices
from mtls_ambassador.ledger.writes import write
from tests.unit.ledger.examples import MAC_A, database, event

SECRET = "hunter2"


def identities(connection: Connection) -> list[str]:
    with reading(connection):
        return list(connection.execute(select(devices.c.identity)).scalars())


def test_a_new_file_is_made_that_only_its_user_reads(tmp_path: Path) -> None:
    state = tmp_path / "not" / "there"
    open_database(database(state)).close()
    connection = open_database(database(state))
    with writing(connection):
        write(connection, event())
    assert state.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in state.iterdir()} == {FILE, f"{FILE}-wal", f"{FILE}-shm"}
    assert {file.stat().st_mode & 0o777 for file in state.iterdir()} == {0o600}
    assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    connection.close()


def test_a_file_that_others_may_read_is_closed_to_them(directory: Path) -> None:
    (directory / FILE).chmod(0o644)
    open_database(database(directory)).close()
    assert (directory / FILE).stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_there_after_opening_again(directory: Path) -> None:
    connection = open_database(database(directory))
    with writing(connection):
        write(connection, event())
    connection.close()
    connection = open_database(database(directory))
    assert identities(connection) == [MAC_A]
    connection.close()


def torn(file: Path) -> None:
    """Pages in the middle hold something else."""
    content = bytearray(file.read_bytes())
    content[4096 : 4096 * 8] = b"\x5a" * (4096 * 7)
    file.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [lambda file: file.write_bytes(b"no database " * 1000), torn, lambda file: file.write_bytes(b"SQLite format 3\0")],
    ids=["something else", "torn pages", "cut off"],
)
def test_a_broken_file_is_set_aside_and_a_new_one_begun(directory: Path, spoil: object) -> None:
    file = directory / FILE
    assert callable(spoil)
    spoil(file)
    broken = file.read_bytes()
    with capture_logs() as logged:
        connection = open_database(database(directory))
    assert identities(connection) == []
    connection.close()
    (aside,) = directory.glob(f"{FILE}.corrupt-*")
    assert aside.read_bytes() == broken
    assert [(line["log_level"], line["kept_as"]) for line in logged] == [("error", str(aside))]


def test_an_empty_file_is_a_new_one(directory: Path) -> None:
    (directory / FILE).write_bytes(b"")
    connection = open_database(database(directory))
    assert identities(connection) == []
    connection.close()
    assert not list(directory.glob("*corrupt*"))


def test_a_directory_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailable, match="cannot be opened"):
        open_database(database(tmp_path / "file"))


def test_what_is_broken_and_what_is_not(directory: Path) -> None:
    connection = open_database(database(directory))
    with pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert not is_broken(caught.value)
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT_INDEX
    assert is_broken(DBAPIError(None, None, error))
    connection.close()


def test_a_reader_sees_what_is_written_beside_it_and_cannot_wait_for_it(directory: Path) -> None:
    connection = open_database(database(directory))
    with writing(connection), opened_for_reading(database(directory)) as reader:
        write(connection, event())
        assert list(reader.execute(select(devices.c.identity)).scalars()) == []
    with opened_for_reading(database(directory)) as reader:
        assert list(reader.execute(select(devices.c.identity)).scalars()) == [MAC_A]
    connection.close()


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="no ledger"), opened_for_reading(database(tmp_path)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_reader_does_not_migrate(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "REVISION", "0002")
    with pytest.raises(LedgerUnavailable, match="0001"), opened_for_reading(database(directory)):
        pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql://edge:{SECRET}@db.example.com:5433/ledger", "PostgreSQL database ledger at db.example.com"),
        (f"postgresql://edge:{SECRET}@/ledger?host=/run/postgresql", "PostgreSQL database ledger at /run/postgresql"),
    ],
)
def test_where_it_is_is_said_without_the_password(url: str, said: str) -> None:
    place = Database.at(url, Path("/nowhere"))
    assert place.file is None
    assert str(place) == said
    assert SECRET not in repr(place)


def test_without_a_url_it_is_a_file_in_the_state_directory() -> None:
    place = Database.at(None, Path("/state"))
    assert place.file == Path("/state") / FILE
    assert str(place) == f"/state/{FILE}"

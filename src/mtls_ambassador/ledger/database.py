"""Opening the ledger's database: a SQLite file of this node, or a PostgreSQL that several nodes share."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.migration import migrate, revision
from mtls_ambassador.ledger.schema import REVISION

FILE = "ledger.sqlite3"
"""Its name in the state directory."""

CHECKED_WHOLE = 32 * 2**20
"""Bytes. A SQLite file up to this size is checked page by page when it is opened, which takes a fraction of a second;
of a larger one a broken page shows when it is read."""

_LOCK_NUMBER = 0x6D746C73  # "mtls": what all nodes lock in PostgreSQL while they write
_LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})"}
_SNAPSHOT = {"sqlite": "BEGIN", "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"}
_SQLITE = ("PRAGMA foreign_keys=ON", "PRAGMA busy_timeout=5000", "PRAGMA synchronous=NORMAL")
# A node that hangs while it writes must not keep all others from writing.
_POSTGRESQL = "SET statement_timeout='10s'; SET lock_timeout='5s'; SET idle_in_transaction_session_timeout='10s'"
_NETWORK = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "tcp_user_timeout": 10_000}
_BROKEN_FILE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Database:
    """Where the ledger is kept."""

    url: URL

    @classmethod
    def at(cls, url: str | None, directory: Path) -> Database:
        """What the setting `ledger_url` names; without it, the file in the state directory."""
        if url is None:
            return cls.in_file(directory / FILE)
        return cls(make_url(url).set(drivername="postgresql+psycopg"))

    @classmethod
    def in_file(cls, file: Path) -> Database:
        """A SQLite file."""
        return cls(URL.create("sqlite+pysqlite", database=str(file)))

    @property
    def file(self) -> Path | None:
        """The SQLite file; None: it is no file."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    def __str__(self) -> str:
        """Its place, in words that hold no password."""
        if self.file is not None:
            return str(self.file)
        host = self.url.host or self.url.query.get("host") or "its default host"
        return f"PostgreSQL database {self.url.database or 'of the default name'} at {host}"

    def engine(self) -> Engine:
        """How to reach it. Nothing is opened yet, and nothing is pooled: each connection has one owner."""
        # SQLite's driver must not begin transactions by itself: `writing` and `reading` do.
        more = _NETWORK if self.file is None else {"isolation_level": None}
        engine = create_engine(self.url, poolclass=NullPool, hide_parameters=True, connect_args=more)
        event.listen(engine, "connect", _prepare_postgresql if self.file is None else _prepare_sqlite)
        return engine


def open_database(database: Database) -> Connection:
    """Open it for the one who writes, with its schema up to date.

    A SQLite file is made if there is none; one that is broken is set aside, and a new one begun.

    Raises:
        LedgerUnavailable: its file or directory cannot be used now.
        DBAPIError: nor can the database, for whatever other reason.
        UnknownSchema: a newer program wrote it.
    """
    file = database.file
    if file is None:
        return _open(database)
    try:
        _make_private(file)
        return _open(database)
    except OSError as error:
        raise LedgerUnavailable(
            f"the ledger {file} cannot be opened: {error.strerror}",
            "See that state_dir exists, has room and may be written by the user the edge runs as.",
        ) from error
    except DBAPIError as error:
        if not is_broken(error):
            raise
        set_aside(file, error.orig)
        _make_private(file)
        return _open(database)


@contextlib.contextmanager
def opened_for_reading(database: Database) -> Iterator[Connection]:
    """Look into it beside whoever writes.

    Raises:
        LedgerUnavailable: it is not there, or its schema is not this program's.
    """
    if database.file is not None and not database.file.is_file():
        raise LedgerUnavailable(
            f"there is no ledger at {database.file}", "Name the state_dir of the edge, or start the edge once."
        )
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(database.engine().connect())
            stack.enter_context(reading(connection))
            found = revision(connection)
        except DBAPIError as error:
            raise LedgerUnavailable(f"the ledger cannot be read ({database}): {words(error)}") from error
        if found != REVISION:
            raise LedgerUnavailable(
                f"the ledger ({database}) has a schema of version {found}, and this program reads {REVISION}",
                "Start this version's edge once, which brings it up to date; or use the edge's own version.",
            )
        yield connection


@contextlib.contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """A transaction that keeps every other writer out, on this node and on others; committed at the end."""
    with connection.begin():
        connection.exec_driver_sql(_LOCK[connection.dialect.name])
        yield


@contextlib.contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """A transaction in which all statements see one state of the database."""
    with connection.begin():
        connection.exec_driver_sql(_SNAPSHOT[connection.dialect.name])
        yield


def is_broken(error: DBAPIError) -> bool:
    """Whether a SQLite file is no database, or a damaged one."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _BROKEN_FILE


def set_aside(file: Path, why: object) -> None:
    """Rename a broken file, with what belongs to it, so that a new one can be begun."""
    aside = file.with_name(f"{file.name}.corrupt-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%f}Z")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{file}{suffix}").rename(f"{aside}{suffix}")
    _log.error(
        f"the ledger {file} is broken and was set aside; a new one is begun",
        error=str(why),
        kept_as=str(aside),
        effect="the edge has forgotten who held which identity; devices that Mender accepts get in, and are noted anew",
        remedy="Restore a backup of it while the edge is stopped, or adopt the devices from a manifest.",
    )


def words(error: BaseException) -> str:
    """An error of the database in one line, without the statement."""
    inner = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = inner.what if isinstance(inner, Error) else str(inner)
    return " ".join(text.split()) or type(inner).__name__


def _open(database: Database) -> Connection:
    connection = database.engine().connect()
    try:
        if database.file is not None:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql(f"PRAGMA journal_size_limit={CHECKED_WHOLE}")
            if database.file.stat().st_size <= CHECKED_WHOLE:
                _check(connection)
            connection.rollback()
        with writing(connection):
            migrate(connection)
    except BaseException:
        connection.invalidate()
        connection.close()
        raise
    return connection


def _check(connection: Connection) -> None:
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        error = sqlite3.DatabaseError(str(found))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise DBAPIError(None, None, error)


def _make_private(file: Path) -> None:
    """Only the edge's user reads it; SQLite gives the files beside it the same mode."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _prepare_sqlite(connection: Any, _: object) -> None:
    for pragma in _SQLITE:
        connection.execute(pragma)


def _prepare_postgresql(connection: Any, _: object) -> None:
    connection.execute(_POSTGRESQL)
    connection.commit()

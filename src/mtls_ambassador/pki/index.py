"""The index of a CA: what it issued and what it revoked, in a SQLite file beside its key.

A certificate's entry is in the index before the certificate is in any file: first `begin`, then write the files, then
`finish`. Whatever a power cut leaves behind is known, as `pending` at least, and can be revoked.

    with Index.open(directory) as index:
        index.begin(entries)
        ...  # write and sync the files
        index.finish(entry.serial for entry in entries)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mtls_ambassador.errors import Error
from mtls_ambassador.pki.entries import Entry, Kind, Reason, Revocation, Status, from_epoch, to_epoch

INDEX = "index.sqlite3"

_VERSION = 1
_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS certificate (
  serial TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  public_key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  path TEXT NOT NULL,
  der BLOB NOT NULL,
  pending INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS certificate_by_subject ON certificate (subject);
CREATE INDEX IF NOT EXISTS certificate_by_key ON certificate (public_key);
CREATE INDEX IF NOT EXISTS certificate_pending ON certificate (pending) WHERE pending;
CREATE TABLE IF NOT EXISTS revocation (
  serial TEXT NOT NULL PRIMARY KEY,
  revoked_at INTEGER NOT NULL,
  reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS counter (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batch_item (
  batch TEXT NOT NULL,
  name TEXT NOT NULL,
  serial TEXT NOT NULL UNIQUE,
  line INTEGER NOT NULL,
  cn TEXT NOT NULL,
  identity TEXT NOT NULL,
  spki BLOB NOT NULL,
  replaced TEXT,
  PRIMARY KEY (batch, name)
) WITHOUT ROWID;
"""
_COLUMNS = "serial, kind, subject, public_key, fingerprint, not_before, not_after, path, der, pending"
_SELECT = f"""
SELECT {", ".join(f"certificate.{column}" for column in _COLUMNS.split(", "))}, revocation.revoked_at, revocation.reason
FROM certificate LEFT JOIN revocation USING (serial)
"""  # noqa: S608  # only constants of this module

_COMPROMISES = ", ".join(f"'{reason}'" for reason in Reason if reason.is_compromise)
_REVOKE = f"""
INSERT INTO revocation (serial, revoked_at, reason) VALUES (?, ?, ?) ON CONFLICT (serial) DO UPDATE
SET reason = excluded.reason WHERE excluded.reason IN ({_COMPROMISES}) AND reason NOT IN ({_COMPROMISES})
"""  # noqa: S608  # only constants


class IndexFileError(Error):
    """The index is missing, damaged, locked, or cannot be written."""


class SerialTakenError(Error):
    """A serial number is in the index already; no two certificates of one CA may have the same."""


class Index:
    """An open index. Every writing call is one transaction, synced to the disk when it returns.

    Several programs may use one index at a time; one that writes waits for another, up to a minute.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def open(cls, directory: Path, *, writable: bool = True) -> Index:
        """Open the index of the CA in `directory`; close it with `with`.

        Args:
            directory: The CA's folder.
            writable: Make it if it is missing (mode 0600). Otherwise it must be there, and nothing is changed: the
                folder may be on a read-only medium.

        Raises:
            IndexFileError: it is missing, damaged, of a later version, or cannot be opened.
        """
        path = directory / INDEX
        if not writable and not path.exists():
            raise IndexFileError(
                f"{path} is missing: this CA has issued nothing that is on record",
                f"Take the CA over with: mtls-ambassador pki adopt --dir {directory}",
            )
        with _explained(path):
            if writable:
                # Made by us, since SQLite would give it the mode that the umask leaves.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            uri = f"{path.absolute().as_uri()}?mode={'rw' if writable else 'ro'}"
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                connection.execute("PRAGMA synchronous = FULL")
                _prepare(connection, path, writable=writable)
            except BaseException:
                connection.close()
                raise
        return cls(connection, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    # What was issued

    def begin(self, entries: Iterable[Entry]) -> None:
        """Put entries in as pending: their certificates are made, and about to be written. All of them or none.

        Raises:
            SerialTakenError: a serial number is in the index already.
            IndexFileError: the index cannot be written.
        """
        self._insert(entries, pending=True)

    def add(self, entries: Iterable[Entry]) -> None:
        """Put entries in whose certificates are in their files already, such as those of an adopted CA.

        Raises:
            SerialTakenError: a serial number is in the index already.
            IndexFileError: the index cannot be written.
        """
        self._insert(entries, pending=False)

    def finish(self, serials: Iterable[str]) -> None:
        """Say of pending certificates that their files are written and synced.

        Raises:
            IndexFileError: the index cannot be written.
        """
        with self.writing() as cursor:
            cursor.executemany("UPDATE certificate SET pending = 0 WHERE serial = ?", ((serial,) for serial in serials))

    def discard(self, serials: Iterable[str]) -> None:
        """Take pending entries out whose certificates never left this process, or whose files were removed again.

        Raises:
            IndexFileError: the index cannot be written.
        """
        with self.writing() as cursor:
            cursor.executemany(
                "DELETE FROM certificate WHERE serial = ? AND pending", ((serial,) for serial in serials)
            )

    def find(self, serial: str) -> Entry | None:
        """The entry of a serial number (lower-case hex, whole bytes), if it is there."""
        return next(self._select("WHERE certificate.serial = ?", serial), None)

    def entries(self, *, kind: Kind | None = None, pending: bool | None = None) -> Iterator[Entry]:
        """All entries, or those of a kind, or those that are (not) pending, in the order of their making.

        Read row by row: an index of a million certificates takes no more memory than one of ten.
        """
        conditions = "WHERE (?1 IS NULL OR certificate.kind = ?1) AND (?2 IS NULL OR certificate.pending = ?2)"
        return self._select(f"{conditions} ORDER BY certificate.rowid", kind, pending)

    def of_subject(self, subject: str) -> Sequence[Entry]:
        """All entries with this subject, RFC 4514 text."""
        return list(self._select("WHERE certificate.subject = ? ORDER BY certificate.rowid", subject))

    def of_key(self, public_key: str) -> Sequence[Entry]:
        """All entries with this public key, by the SHA-256 of its SubjectPublicKeyInfo."""
        return list(self._select("WHERE certificate.public_key = ? ORDER BY certificate.rowid", public_key))

    # What was revoked

    def revoke(self, revocations: Iterable[Revocation]) -> None:
        """Put serial numbers on the list of revoked ones; of one that is there already, the first time counts.

        The first reason does, too, but that one who hears later of a compromise can still say so.

        Raises:
            IndexFileError: the index cannot be written.
        """
        rows = ((each.serial, to_epoch(each.at), each.reason) for each in revocations)
        with self.writing() as cursor:
            cursor.executemany(_REVOKE, rows)

    def revocations(self) -> Iterator[Revocation]:
        """All revoked serial numbers, the earliest first; also those whose certificates the index does not know."""
        with _explained(self._path):
            for serial, at, reason in self._connection.execute(
                "SELECT serial, revoked_at, reason FROM revocation ORDER BY revoked_at, rowid"
            ):
                yield Revocation(serial, from_epoch(at), Reason(reason))

    def revocation(self, serial: str) -> Revocation | None:
        """The revocation of a serial number (lower-case hex, whole bytes), whether its certificate is known or not."""
        rows = self.read("SELECT revoked_at, reason FROM revocation WHERE serial = ?", serial)
        return next((Revocation(serial, from_epoch(at), Reason(reason)) for at, reason in rows), None)

    def crl_number(self) -> int:
        """The number of the latest revocation list, 0 if there was none."""
        with _explained(self._path):
            row = self._connection.execute("SELECT value FROM counter WHERE name = 'crl_number'").fetchone()
        return int(row[0]) if row else 0

    def next_crl_number(self, at_least: int = 1) -> int:
        """The number for a new revocation list: above all before it (RFC 5280 section 5.2.3).

        Args:
            at_least: What it must not be below, such as one more than another program's last list has.

        Raises:
            IndexFileError: the index cannot be written.
        """
        with self.writing() as cursor:
            cursor.execute(
                "INSERT INTO counter (name, value) VALUES ('crl_number', ?1) "
                "ON CONFLICT (name) DO UPDATE SET value = max(value + 1, ?1)",
                (at_least,),
            )
            return int(cursor.execute("SELECT value FROM counter WHERE name = 'crl_number'").fetchone()[0])

    def insert(self, cursor: sqlite3.Cursor, entries: Iterable[Entry], *, pending: bool) -> None:
        """Put entries in, within a transaction of `writing`.

        Raises:
            SerialTakenError: a serial number is in the index already.
        """
        rows = (
            (
                entry.serial, entry.kind, entry.subject, entry.public_key, entry.fingerprint,
                to_epoch(entry.not_before), to_epoch(entry.not_after), entry.path, entry.der, pending,
            )
            for entry in entries
        )  # fmt: skip
        try:
            cursor.executemany(f"INSERT INTO certificate ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", rows)  # noqa: S608
        except sqlite3.IntegrityError as error:
            raise SerialTakenError(
                f"a serial number is in {self._path} already: one CA must not give it to two certificates",
                "Issue it anew; a serial number is drawn at random each time.",
            ) from error

    def read(self, query: str, *values: str | int | None) -> Iterator[Sequence[Any]]:
        """The rows of a query, one by one.

        Raises:
            IndexFileError: the index cannot be read.
        """
        with _explained(self._path):
            yield from self._connection.execute(query, values)

    def _insert(self, entries: Iterable[Entry], *, pending: bool) -> None:
        with self.writing() as cursor:
            self.insert(cursor, entries, pending=pending)

    def _select(self, condition: str, *values: str | bool | None) -> Iterator[Entry]:
        for row in self.read(_SELECT + condition, *values):
            yield _entry(row)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Cursor]:
        """A transaction: committed and synced at its end, or rolled back by an exception.

        Raises:
            IndexFileError: the index cannot be written.
        """
        with _explained(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.cursor()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _entry(row: Sequence[object]) -> Entry:
    serial, kind, subject, public_key, fingerprint, not_before, not_after, path, der, pending, revoked_at, reason = row
    revocation = None
    if isinstance(revoked_at, int):
        revocation = Revocation(str(serial), from_epoch(revoked_at), Reason(str(reason)))
    assert isinstance(not_before, int) and isinstance(not_after, int) and isinstance(der, bytes)  # noqa: PT018, S101
    return Entry(
        serial=str(serial),
        kind=Kind(str(kind)),
        subject=str(subject),
        public_key=str(public_key),
        fingerprint=str(fingerprint),
        not_before=from_epoch(not_before),
        not_after=from_epoch(not_after),
        path=str(path),
        der=der,
        status=Status.REVOKED if revocation else Status.PENDING if pending else Status.VALID,
        revocation=revocation,
    )


def _prepare(connection: sqlite3.Connection, path: Path, *, writable: bool) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise IndexFileError(
            f"{path} was written by a later version of this program (format {version}, this one knows {_VERSION})",
            "Use that version.",
        )
    if version == _VERSION:
        return
    if not writable:  # made by a program that was killed before it wrote anything
        raise IndexFileError(f"{path} is empty", f"Take the CA over with: pki adopt --dir {path.parent}")
    connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.OperationalError as error:
        raise IndexFileError(
            f"cannot use the index {path}: {error}",
            "See that its folder exists, has room, may be written by this user, and that no other program holds it.",
        ) from error
    except sqlite3.Error as error:
        raise IndexFileError(
            f"the index {path} is damaged: {error}",
            "Put it back from your backup; or move it away and take the CA over anew with: mtls-ambassador pki adopt",
        ) from error
    except OSError as error:
        raise IndexFileError(
            f"cannot open the index {path}: {error.strerror}", "See that its folder exists and this user may write it."
        ) from error

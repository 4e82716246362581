"""The SQLite database behind the embedded Mender Server: opening it, its schema, its signing key.

Every statement commits by itself: the real server has no transactions either, and one process with one thread needs
none.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from mtls_ambassador.errors import Error

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS devices (
  id TEXT PRIMARY KEY, identity TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, status TEXT NOT NULL,
  decommissioning INTEGER NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL, check_in TEXT);
CREATE INDEX IF NOT EXISTS devices_by_status ON devices (status, id);
CREATE TABLE IF NOT EXISTS auth_sets (
  id TEXT PRIMARY KEY, device_id TEXT NOT NULL, identity TEXT NOT NULL, digest TEXT NOT NULL, pubkey TEXT NOT NULL,
  status TEXT NOT NULL, created TEXT NOT NULL, UNIQUE (digest, pubkey));
CREATE INDEX IF NOT EXISTS auth_sets_by_device ON auth_sets (device_id);
CREATE TABLE IF NOT EXISTS device_tokens (id TEXT PRIMARY KEY, device_id TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS device_tokens_by_device ON device_tokens (device_id);
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, created TEXT NOT NULL, login TEXT);
CREATE TABLE IF NOT EXISTS user_tokens (
  sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, name TEXT, issued REAL NOT NULL,
  expires REAL, last_used REAL, UNIQUE (user_id, name));
CREATE TABLE IF NOT EXISTS inventory (device_id TEXT PRIMARY KEY, created TEXT NOT NULL, updated TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS attributes (
  device_id TEXT NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, description TEXT,
  PRIMARY KEY (device_id, scope, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS configurations (device_id TEXT PRIMARY KEY, reported TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS artifacts (
  sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, description TEXT NOT NULL,
  size INTEGER NOT NULL, modified TEXT NOT NULL, shown TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deployments (
  sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, artifact_name TEXT NOT NULL,
  force_installation INTEGER NOT NULL, created TEXT NOT NULL, finished TEXT, digest TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS deployments_under_way ON deployments (digest) WHERE finished IS NULL;
CREATE TABLE IF NOT EXISTS device_deployments (
  deployment_id TEXT NOT NULL, device_id TEXT NOT NULL, sequence INTEGER NOT NULL, status TEXT NOT NULL,
  substate TEXT NOT NULL DEFAULT '', created TEXT NOT NULL, started TEXT, finished TEXT, request TEXT,
  artifact_id TEXT, log TEXT, PRIMARY KEY (deployment_id, device_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS device_deployments_by_device ON device_deployments (device_id, sequence);
"""

# What came after the tables above were first made; a database of before gets it when it is opened.
_LATER_COLUMNS = (
    ("configurations", "configured"),
    ("configurations", "deployment_id"),
    ("configurations", "updated"),
    ("configurations", "reported_at"),
    ("deployments", "group_name"),
    ("deployments", "configuration"),
)


class DatabaseError(Error):
    """The database file cannot be used."""


class Database:
    """An open database; close it at the end.

    Args:
        path: The file, created with mode 0600 as it holds the signing key; None: in memory.

    Raises:
        DatabaseError: the file cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise DatabaseError(
                    f"cannot open the database {path}: {error.strerror}", "Name a file in a directory you may write to."
                ) from error
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
            for table, column in _LATER_COLUMNS:
                if column not in {row[1] for row in self.rows(f"PRAGMA table_info({table})")}:
                    self.run(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise DatabaseError(
                f"cannot use the database {path}: {error}", "Name another file, or delete this one."
            ) from error

    def close(self) -> None:
        """Close it; a database in memory is gone."""
        self._connection.close()

    def run(self, statement: str, *values: Any) -> int:
        """Execute one statement and return how many rows it changed.

        Raises:
            sqlite3.IntegrityError: a row of that key exists.
        """
        return self._connection.execute(statement, values).rowcount

    def rows(self, query: str, *values: Any) -> list[Any]:
        """All rows that a query gives, as tuples."""
        return self._connection.execute(query, values).fetchall()

    def meta(self, name: str) -> str | None:
        """A value kept under a name, None if there is none."""
        found = self.rows("SELECT value FROM meta WHERE name = ?", name)
        return str(found[0][0]) if found else None

    def set_meta(self, name: str, value: str) -> None:
        """Keep a value under a name."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

"""Artifacts: their files in a directory, their descriptions in the database."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mtls_ambassador.lab.server.database import Database, DatabaseError
from mtls_ambassador.lab.server.deployment_records import Artifact

_SELECT = "SELECT id, name, description, size, modified, shown FROM artifacts"
_UPLOAD = "upload-"


@contextlib.contextmanager
def artifact_directory(db: Path | None) -> Iterator[Path]:
    """Where the files of artifacts are kept: beside the database, or in a temporary directory that ends with the block.

    Args:
        db: The file of the database, None if it is in memory.

    Raises:
        DatabaseError: the directory cannot be made.
    """
    if db is None:
        # Not tempfile's own context manager: it warns when a crash of the loop leaves it to the garbage collector.
        try:
            directory = Path(tempfile.mkdtemp(prefix="lab-artifacts-"))
        except OSError as error:
            raise DatabaseError(
                f"cannot keep artifacts in a temporary directory: {error.strerror}",
                "Set TMPDIR to a directory you may write to, or name a --db in one.",
            ) from error
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return
    directory = db.with_name(f"{db.name}.artifacts")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for left in directory.glob(f"{_UPLOAD}*"):
            left.unlink()  # of a server that was killed
    except OSError as error:
        raise DatabaseError(
            f"cannot keep artifacts in {directory}: {error.strerror}", "Name a --db in a directory you may write to."
        ) from error
    yield directory


class ArtifactStore:
    """Reads and writes of artifacts; no rules here.

    Args:
        database: Holds what artifacts say of themselves.
        directory: Holds their files, each under its id.
    """

    def __init__(self, database: Database, directory: Path) -> None:
        self._db = database
        self._directory = directory

    def file(self, artifact_id: str) -> Path:
        """Where an artifact's file is."""
        return self._directory / artifact_id

    @contextlib.contextmanager
    def upload(self) -> Iterator[Path]:
        """An empty file for what arrives, for the time of the block; `add` takes it away from there."""
        handle, name = tempfile.mkstemp(prefix=_UPLOAD, dir=self._directory)
        os.close(handle)
        path = Path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def add(self, artifact: Artifact, uploaded: Path) -> bool:
        """Keep an artifact; False if its id is taken."""
        if self.artifact(artifact.id) is not None:
            return False
        uploaded.rename(self.file(artifact.id))
        try:
            self._db.run(
                "INSERT INTO artifacts (id, name, description, size, modified, shown) VALUES (?, ?, ?, ?, ?, ?)",
                artifact.id,
                artifact.name,
                artifact.description,
                artifact.size,
                artifact.modified,
                json.dumps(artifact.shown),
            )
        except sqlite3.Error:
            self.file(artifact.id).unlink()
            raise
        return True

    def artifact(self, artifact_id: str) -> Artifact | None:
        """The artifact of that id."""
        return next(iter(self._artifacts("WHERE id = ?", artifact_id)), None)

    def artifacts(self, name: str | None = None) -> list[Artifact]:
        """All artifacts, or those of a name, oldest first."""
        if name is None:
            return self._artifacts("ORDER BY sequence")
        return self._artifacts("WHERE name = ? ORDER BY sequence", name)

    def delete(self, artifact_id: str) -> None:
        """Delete an artifact with its file."""
        self._db.run("DELETE FROM artifacts WHERE id = ?", artifact_id)
        self.file(artifact_id).unlink(missing_ok=True)

    def _artifacts(self, where: str, *values: object) -> list[Artifact]:
        rows = self._db.rows(f"{_SELECT} {where}", *values)
        return [replace(Artifact(*row), shown=json.loads(row[5])) for row in rows]

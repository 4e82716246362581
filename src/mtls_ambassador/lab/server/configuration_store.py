"""The configurations that devices report, in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mtls_ambassador.lab.server.database import Database


class ConfigurationStore:
    """Reads and writes of deviceconfig."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def report(self, device_id: str, configuration: Mapping[str, str]) -> None:
        """Keep what a device reports, instead of what it reported before."""
        self._db.run("INSERT OR REPLACE INTO configurations VALUES (?, ?)", device_id, json.dumps(dict(configuration)))

    def reported(self, device_id: str) -> dict[str, str] | None:
        """What a device reported last; None if nothing yet."""
        rows = self._db.rows("SELECT reported FROM configurations WHERE device_id = ?", device_id)
        return json.loads(rows[0][0]) if rows else None

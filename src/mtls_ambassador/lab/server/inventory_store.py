"""Inventory attributes in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mtls_ambassador.lab.server.database import Database
from mtls_ambassador.lab.server.records import Attribute


class InventoryStore:
    """Reads and writes of inventory; no rules here."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, device_id: str, attributes: Sequence[Attribute], now: str) -> None:
        """Add or overwrite attributes; the device is added if it is new."""
        self._db.run(
            "INSERT INTO inventory VALUES (?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET updated = excluded.updated",
            device_id,
            now,
            now,
        )
        for item in attributes:
            self.write(device_id, item)

    def write(self, device_id: str, item: Attribute) -> None:
        """Add or overwrite an attribute of a device that is there; it does not count as changed."""
        self._db.run(
            "INSERT OR REPLACE INTO attributes VALUES (?, ?, ?, ?, ?)",
            device_id,
            item.scope,
            item.name,
            json.dumps(item.value),
            item.description,
        )

    def erase(self, device_id: str, scope: str, name: str) -> None:
        """Remove an attribute of a device; it does not count as changed."""
        self._db.run("DELETE FROM attributes WHERE device_id = ? AND scope = ? AND name = ?", device_id, scope, name)

    def clear(self, device_id: str, scope: str) -> None:
        """Remove a device's attributes of one scope."""
        self._db.run("DELETE FROM attributes WHERE device_id = ? AND scope = ?", device_id, scope)

    def delete(self, device_id: str) -> None:
        """Remove a device."""
        self._db.run("DELETE FROM attributes WHERE device_id = ?", device_id)
        self._db.run("DELETE FROM inventory WHERE device_id = ?", device_id)
        self._db.run("DELETE FROM configurations WHERE device_id = ?", device_id)

    def attributes(self, device_id: str) -> list[Attribute]:
        """A device's attributes by scope and name."""
        rows = self._db.rows(
            "SELECT scope, name, value, description FROM attributes WHERE device_id = ? ORDER BY scope, name", device_id
        )
        return [Attribute(scope, name, json.loads(value), description) for scope, name, value, description in rows]

    def values(self, scope: str, name: str) -> dict[str, object]:
        """The value of an attribute by device id, sorted; devices without it are left out."""
        query = "SELECT device_id, value FROM attributes WHERE scope = ? AND name = ? ORDER BY device_id"
        return {device_id: json.loads(value) for device_id, value in self._db.rows(query, scope, name)}

    def times(self, device_id: str) -> tuple[str, str] | None:
        """When a device was added and last changed; None if there is none of that id."""
        rows = self._db.rows("SELECT created, updated FROM inventory WHERE device_id = ?", device_id)
        return (rows[0][0], rows[0][1]) if rows else None

    def device_ids(self) -> list[str]:
        """The ids of all devices, sorted."""
        return [row[0] for row in self._db.rows("SELECT device_id FROM inventory ORDER BY device_id")]

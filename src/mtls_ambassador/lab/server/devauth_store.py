"""Devices, auth sets and device tokens in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from mtls_ambassador.lab.server.database import Database
from mtls_ambassador.lab.server.records import AuthSet, Device

_DEVICE = "SELECT id, identity, digest, status, decommissioning, created, updated, check_in FROM devices"
_SET = "SELECT id, device_id, identity, digest, pubkey, status, created FROM auth_sets"


class DevauthStore:
    """Reads and writes of deviceauth; no rules here."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_device(self, device: Device) -> bool:
        """Add a device; False if its identity is there already."""
        try:
            self._db.run(
                "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                device.id,
                device.identity,
                device.digest,
                device.status,
                int(device.decommissioning),
                device.created,
                device.updated,
                device.check_in,
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def device(self, device_id: str) -> Device | None:
        """The device of that id."""
        return next(iter(self._devices("WHERE id = ?", device_id)), None)

    def device_by_digest(self, digest: str) -> Device | None:
        """The device of that identity."""
        return next(iter(self._devices("WHERE digest = ?", digest)), None)

    def devices(
        self, statuses: Sequence[str] = (), ids: Sequence[str] = (), *, skip: int = 0, limit: int = -1
    ) -> list[Device]:
        """Devices sorted by status, then id; an empty filter passes all, `limit` -1 is none."""
        conditions = ["1"]
        if statuses:
            conditions.append(f"status IN ({_marks(statuses)})")
        if ids:
            conditions.append(f"id IN ({_marks(ids)})")
        where = f"WHERE {' AND '.join(conditions)} ORDER BY status, id LIMIT ? OFFSET ?"
        return self._devices(where, *statuses, *ids, limit, skip)

    def decommissioning(self) -> list[str]:
        """Ids of the devices whose removal is under way."""
        return [row[0] for row in self._db.rows("SELECT id FROM devices WHERE decommissioning")]

    def count(self, status: str) -> int:
        """How many devices have that status; "" counts all."""
        if not status:
            return int(self._db.rows("SELECT count(*) FROM devices")[0][0])
        return int(self._db.rows("SELECT count(*) FROM devices WHERE status = ?", status)[0][0])

    def set_device_status(self, device_id: str, status: str, now: str) -> None:
        """Write a device's status."""
        self._db.run("UPDATE devices SET status = ?, updated = ? WHERE id = ?", status, now, device_id)

    def set_check_in(self, device_id: str, now: str) -> None:
        """Write when a device was last seen."""
        self._db.run("UPDATE devices SET check_in = ? WHERE id = ?", now, device_id)

    def mark_decommissioning(self, device_id: str) -> bool:
        """Mark a device; False if there is none of that id."""
        return self._db.run("UPDATE devices SET decommissioning = 1 WHERE id = ?", device_id) > 0

    def delete_device(self, device_id: str) -> None:
        """Delete a device with its sets and tokens."""
        self._db.run("DELETE FROM auth_sets WHERE device_id = ?", device_id)
        self.delete_tokens(device_id)
        self._db.run("DELETE FROM devices WHERE id = ?", device_id)

    def add_set(self, auth_set: AuthSet) -> bool:
        """Add an auth set; False if its identity and key are there already."""
        try:
            self._db.run(
                "INSERT INTO auth_sets VALUES (?, ?, ?, ?, ?, ?, ?)",
                auth_set.id,
                auth_set.device_id,
                auth_set.identity,
                auth_set.digest,
                auth_set.pubkey,
                auth_set.status,
                auth_set.created,
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def auth_set(self, set_id: str) -> AuthSet | None:
        """The auth set of that id."""
        return next(iter(self._sets("WHERE id = ?", set_id)), None)

    def set_by_key(self, digest: str, pubkey: str) -> AuthSet | None:
        """The auth set of that identity and key."""
        return next(iter(self._sets("WHERE digest = ? AND pubkey = ?", digest, pubkey)), None)

    def sets_of(self, device_id: str) -> list[AuthSet]:
        """The auth sets of a device, oldest first."""
        return self._sets("WHERE device_id = ? ORDER BY rowid", device_id)

    def set_set_status(self, set_id: str, status: str) -> None:
        """Write an auth set's status."""
        self._db.run("UPDATE auth_sets SET status = ? WHERE id = ?", status, set_id)

    def reject_accepted_but(self, device_id: str, set_id: str) -> None:
        """Make every accepted auth set of a device rejected, except one."""
        self._db.run(
            "UPDATE auth_sets SET status = 'rejected' WHERE device_id = ? AND status = 'accepted' AND id != ?",
            device_id,
            set_id,
        )

    def delete_set(self, set_id: str) -> None:
        """Delete an auth set."""
        self._db.run("DELETE FROM auth_sets WHERE id = ?", set_id)

    def add_token(self, token_id: str, device_id: str) -> None:
        """Note that tokens of that id (an auth set's) are valid."""
        self._db.run("INSERT OR REPLACE INTO device_tokens VALUES (?, ?)", token_id, device_id)

    def has_token(self, token_id: str) -> bool:
        """Whether tokens of that id are valid."""
        return bool(self._db.rows("SELECT 1 FROM device_tokens WHERE id = ?", token_id))

    def delete_token(self, token_id: str) -> bool:
        """Revoke the tokens of that id; False if there are none."""
        return self._db.run("DELETE FROM device_tokens WHERE id = ?", token_id) > 0

    def delete_tokens(self, device_id: str) -> None:
        """Revoke all tokens of a device."""
        self._db.run("DELETE FROM device_tokens WHERE device_id = ?", device_id)

    def _devices(self, where: str, *values: object) -> list[Device]:
        rows = self._db.rows(f"{_DEVICE} {where}", *values)
        return [replace(Device(*row), decommissioning=bool(row[4])) for row in rows]

    def _sets(self, where: str, *values: object) -> list[AuthSet]:
        return [AuthSet(*row) for row in self._db.rows(f"{_SET} {where}", *values)]


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))

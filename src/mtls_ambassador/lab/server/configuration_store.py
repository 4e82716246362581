"""The configurations that devices are to have and those they report, in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mtls_ambassador.lab.server.database import Database


@dataclass(frozen=True)
class DeviceConfiguration:
    """What deviceconfig knows of a device; times are RFC 3339.

    Attributes:
        device_id: The device.
        configured: What it is to have.
        reported: What it says it has.
        deployment_id: The newest deployment of `configured`, None if there was none.
        updated: When `configured` was written, None: never.
        reported_at: When the device reported, None: never.
    """

    device_id: str
    configured: Mapping[str, str]
    reported: Mapping[str, str]
    deployment_id: str | None
    updated: str | None
    reported_at: str | None


class ConfigurationStore:
    """Reads and writes of deviceconfig; no rules here."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def configure(self, device_id: str, values: Mapping[str, str], now: str) -> None:
        """Write what a device is to have, instead of what it was to have before."""
        self._db.run(
            "INSERT INTO configurations (device_id, reported, configured, updated) VALUES (?, '{}', ?, ?)"
            " ON CONFLICT (device_id) DO UPDATE SET configured = excluded.configured, updated = excluded.updated",
            device_id,
            json.dumps(dict(values)),
            now,
        )

    def report(self, device_id: str, values: Mapping[str, str], now: str) -> None:
        """Write what a device says it has, instead of what it said before."""
        self._db.run(
            "INSERT INTO configurations (device_id, reported, reported_at) VALUES (?, ?, ?)"
            " ON CONFLICT (device_id) DO UPDATE SET reported = excluded.reported, reported_at = excluded.reported_at",
            device_id,
            json.dumps(dict(values)),
            now,
        )

    def set_deployment(self, device_id: str, deployment_id: str) -> None:
        """Write which deployment is the newest of a device's configuration."""
        self._db.run("UPDATE configurations SET deployment_id = ? WHERE device_id = ?", deployment_id, device_id)

    def configuration(self, device_id: str) -> DeviceConfiguration | None:
        """What is known of a device; None if nothing was ever written."""
        rows = self._db.rows(
            "SELECT configured, reported, deployment_id, updated, reported_at FROM configurations WHERE device_id = ?",
            device_id,
        )
        if not rows:
            return None
        configured, reported, *others = rows[0]
        return DeviceConfiguration(device_id, json.loads(configured or "{}"), json.loads(reported), *others)

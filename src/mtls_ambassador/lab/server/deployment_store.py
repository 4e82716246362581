"""Deployments, and what became of them on each device, in the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from mtls_ambassador.lab.server.database import Database
from mtls_ambassador.lab.server.deployment_records import Deployment, DeviceDeployment
from mtls_ambassador.lab.server.deployment_rules import ABORTED, ACTIVE, DECOMMISSIONED, PENDING

_DEPLOYMENT = (
    "SELECT sequence, id, name, artifact_name, force_installation, created, finished, group_name, configuration"
    " FROM deployments"
)
_ON_DEVICE = (
    "SELECT deployment_id, device_id, status, substate, created, started, finished, request, artifact_id,"
    " log IS NOT NULL FROM device_deployments"
)
_ACTIVE = f"status IN ({','.join(repr(status) for status in ACTIVE)})"
_END = f"UPDATE device_deployments SET status = ?, finished = ? WHERE {_ACTIVE} AND"  # noqa: S608 - constants


class DeploymentStore:
    """Reads and writes of deployments; no rules here.

    A row for each device is there from the beginning; until the device asks for the first time its `request` is NULL.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, deployment: Deployment, devices: Sequence[str], digest: str) -> bool:
        """Add a deployment to devices; False if an unfinished one has the same `digest`. `sequence` is ignored."""
        try:
            self._db.run(
                "INSERT INTO deployments"
                " (id, name, artifact_name, force_installation, created, group_name, configuration, digest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                deployment.id,
                deployment.name,
                deployment.artifact_name,
                int(deployment.force_installation),
                deployment.created,
                deployment.group,
                deployment.configuration,
                digest,
            )
        except sqlite3.IntegrityError:
            return False
        self._db.run(
            "INSERT OR IGNORE INTO device_deployments (deployment_id, device_id, sequence, status, created)"
            " SELECT d.id, j.value, d.sequence, ?, d.created FROM deployments d, json_each(?) j WHERE d.id = ?",
            PENDING,
            json.dumps(list(devices)),
            deployment.id,
        )
        return True

    def deployment(self, deployment_id: str) -> Deployment | None:
        """The deployment of that id."""
        return next(iter(self._deployments("WHERE id = ?", deployment_id)), None)

    def deployments(self) -> list[Deployment]:
        """All deployments, oldest first."""
        return self._deployments("ORDER BY sequence")

    def artifact_in_use(self, artifact_name: str) -> bool:
        """Whether an unfinished deployment installs artifacts of that name."""
        return bool(
            self._db.rows("SELECT 1 FROM deployments WHERE artifact_name = ? AND finished IS NULL", artifact_name)
        )

    def finish(self, deployment_id: str, now: str) -> None:
        """Write when a deployment ended."""
        self._db.run("UPDATE deployments SET finished = ? WHERE id = ?", now, deployment_id)

    def statuses(self, deployment_id: str) -> list[str]:
        """The statuses of all devices of a deployment."""
        rows = self._db.rows("SELECT status FROM device_deployments WHERE deployment_id = ?", deployment_id)
        return [row[0] for row in rows]

    def total_size(self, deployment_id: str) -> int:
        """Bytes of all artifacts that devices were told to install."""
        query = (
            "SELECT coalesce(sum(a.size), 0) FROM device_deployments d JOIN artifacts a ON a.id = d.artifact_id"
            " WHERE d.deployment_id = ?"
        )
        return int(self._db.rows(query, deployment_id)[0][0])

    def on_device(self, deployment_id: str, device_id: str) -> DeviceDeployment | None:
        """A deployment on a device."""
        return next(iter(self._on_devices("WHERE deployment_id = ? AND device_id = ?", deployment_id, device_id)), None)

    def on_devices(self, deployment_id: str) -> list[DeviceDeployment]:
        """A deployment on all its devices, by device id."""
        return self._on_devices("WHERE deployment_id = ? ORDER BY device_id", deployment_id)

    def of_device(self, device_id: str) -> list[DeviceDeployment]:
        """All deployments on a device, oldest first."""
        return self._on_devices("WHERE device_id = ? ORDER BY sequence", device_id)

    def next_for(self, device_id: str) -> DeviceDeployment | None:
        """What a device is to do: the oldest it is busy with, else the oldest newer than all it has done."""
        busy = f"WHERE device_id = ? AND request IS NOT NULL AND {_ACTIVE} ORDER BY sequence LIMIT 1"
        new = (
            "WHERE device_id = ? AND request IS NULL AND status = 'pending' AND sequence > (SELECT"
            " coalesce(max(sequence), 0) FROM device_deployments WHERE device_id = ? AND request IS NOT NULL)"
            " ORDER BY sequence LIMIT 1"
        )
        found = self._on_devices(busy, device_id) or self._on_devices(new, device_id, device_id)
        return next(iter(found), None)

    def start(self, state: DeviceDeployment, request: str, now: str) -> None:
        """Write what a device said when it asked for a deployment first."""
        self._db.run(
            "UPDATE device_deployments SET request = ?, started = ? WHERE deployment_id = ? AND device_id = ?",
            request,
            now,
            state.deployment_id,
            state.device_id,
        )

    def assign(self, state: DeviceDeployment, artifact_id: str) -> None:
        """Write which artifact a device was told to install."""
        self._db.run(
            "UPDATE device_deployments SET artifact_id = ? WHERE deployment_id = ? AND device_id = ?",
            artifact_id,
            state.deployment_id,
            state.device_id,
        )

    def set_status(self, state: DeviceDeployment, status: str, substate: str, finished: str | None) -> None:
        """Write a device's status and when it ended."""
        self._db.run(
            "UPDATE device_deployments SET status = ?, substate = ?, finished = ?"
            " WHERE deployment_id = ? AND device_id = ?",
            status,
            substate,
            finished,
            state.deployment_id,
            state.device_id,
        )

    def abort(self, deployment_id: str, now: str) -> None:
        """Abort what devices are busy with; those that have not asked yet are no longer part of the deployment."""
        self._db.run("DELETE FROM device_deployments WHERE deployment_id = ? AND request IS NULL", deployment_id)
        self._db.run(f"{_END} deployment_id = ?", ABORTED, now, deployment_id)

    def decommission(self, device_id: str, now: str) -> list[str]:
        """End everything that a device was to do; the ids of the deployments that this is about."""
        ended = [state.deployment_id for state in self._on_devices(f"WHERE device_id = ? AND {_ACTIVE}", device_id)]
        self._db.run(f"{_END} device_id = ?", DECOMMISSIONED, now, device_id)
        return ended

    def set_log(self, state: DeviceDeployment, log: str) -> None:
        """Keep a device's log of a deployment, instead of an earlier one."""
        self._db.run(
            "UPDATE device_deployments SET log = ? WHERE deployment_id = ? AND device_id = ?",
            log,
            state.deployment_id,
            state.device_id,
        )

    def log(self, deployment_id: str, device_id: str) -> str | None:
        """A device's log of a deployment."""
        query = "SELECT log FROM device_deployments WHERE deployment_id = ? AND device_id = ?"
        rows = self._db.rows(query, deployment_id, device_id)
        return rows[0][0] if rows else None

    def _deployments(self, where: str, *values: object) -> list[Deployment]:
        rows = self._db.rows(f"{_DEPLOYMENT} {where}", *values)
        return [replace(Deployment(*row), force_installation=bool(row[4])) for row in rows]

    def _on_devices(self, where: str, *values: object) -> list[DeviceDeployment]:
        rows = self._db.rows(f"{_ON_DEVICE} {where}", *values)
        return [replace(DeviceDeployment(*row), has_log=bool(row[9])) for row in rows]

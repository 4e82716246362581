"""The records of the deployments service: what is stored, and what a test gets to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Artifact:
    """An uploaded artifact; `shown` are the further members of its object in the API, `modified` is RFC 3339."""

    id: str
    name: str
    description: str
    size: int
    modified: str
    shown: Mapping[str, Any]

    @property
    def device_types(self) -> tuple[str, ...]:
        """The device types it is for."""
        return tuple(self.shown["device_types_compatible"])

    @property
    def depends(self) -> Mapping[str, Any]:
        """What a device must provide to get it; the device types are among that."""
        return dict(self.shown["artifact_depends"])


@dataclass(frozen=True)
class Deployment:
    """A deployment; times are RFC 3339, `sequence` grows from one to the next.

    `group` is the one that it was made for, and `configuration`, a JSON object, what it configures devices with: then
    its artifact is made when a device downloads it.
    """

    sequence: int
    id: str
    name: str
    artifact_name: str
    force_installation: bool
    created: str
    finished: str | None
    group: str | None = None
    configuration: str | None = None

    @property
    def type(self) -> str:
        """`software` or `configuration`."""
        return "software" if self.configuration is None else "configuration"


@dataclass(frozen=True)
class DeviceDeployment:
    """What became of a deployment on one device.

    Attributes:
        deployment_id: Of the deployment.
        device_id: Of the device.
        status: As in `deployment_rules`.
        substate: What the device said beside it, "" if nothing.
        created: When the deployment was made, RFC 3339 like the other times.
        started: When the device asked for it first.
        finished: When it ended on this device.
        request: What the device said it provides when it asked first, as JSON; None: it has not asked.
        artifact_id: Which artifact it was told to install.
        has_log: Whether the device sent a log.
    """

    deployment_id: str
    device_id: str
    status: str
    substate: str
    created: str
    started: str | None
    finished: str | None
    request: str | None
    artifact_id: str | None
    has_log: bool


@dataclass(frozen=True)
class LabArtifact:
    """An artifact as a test sees it; `size` in bytes."""

    id: str
    name: str
    device_types: tuple[str, ...]
    size: int
    description: str


@dataclass(frozen=True)
class LabDeployment:
    """A deployment as a test sees it.

    Attributes:
        id: Its id.
        name: What the operator called it.
        artifact_name: What is to be installed.
        status: pending, inprogress or finished.
        devices: Status by device id; a device that has not asked yet is pending.
        logs: What devices logged, by device id.
        group: The group that it was made for.
        configuration: What it configures devices with; None if it installs software.
    """

    id: str
    name: str
    artifact_name: str
    status: str
    devices: Mapping[str, str]
    logs: Mapping[str, str]
    group: str | None = None
    configuration: Mapping[str, str] | None = None

"""A deployment as a real client goes through it, except that nothing is installed but configurations."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from mtls_ambassador.lab.device import Download, SimulatedDevice
from mtls_ambassador.lab.transport import DeviceError

_SMALLEST = 4096
"""Bytes; the Go client refuses anything smaller."""
_CONFIGURE = "mender-configure"


class InstallationError(DeviceError):
    """A deployment that the device had to give up."""


@dataclass(frozen=True, slots=True)
class Instructions:
    """What an update check offered.

    Attributes:
        deployment_id: The deployment.
        artifact_name: What the device runs afterwards; empty where the server does not say.
        url: Where to download it.
    """

    deployment_id: str
    artifact_name: str
    url: str


@dataclass(slots=True)
class Artifacts:
    """What was downloaded under each artifact name: every device must have got the same."""

    downloads: dict[str, Download] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def check(self, name: str, found: Download) -> None:
        """Compare a download with the first one of that name.

        Raises:
            InstallationError: it is another one.
        """
        first = self.downloads.setdefault(name, found)
        if first != found:
            raise InstallationError(f"the artifact {name} did not arrive as it did at the first device")
        self.counts[name] = self.counts.get(name, 0) + 1


def read_instructions(content: Mapping[str, Any]) -> Instructions:
    """Read the answer to an update check (deployments, devices API v1).

    Raises:
        InstallationError: what both real clients need of it is not there, or the link leads nowhere.
    """
    artifact = content.get("artifact")
    source = artifact.get("source") if isinstance(artifact, dict) else None
    url = source.get("uri") if isinstance(source, dict) else None
    identifier = content.get("id")
    if not isinstance(artifact, dict) or not isinstance(url, str) or not url or not isinstance(identifier, str):
        raise InstallationError("the deployment instructions lack id or artifact.source.uri")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InstallationError(f"a device cannot download from {url[:200]!r}")
    return Instructions(identifier, str(artifact.get("artifact_name", "")), url)


def read_configuration(artifact: bytes) -> dict[str, str] | None:
    """The configuration in an artifact for the update module mender-configure; None: it is for something else.

    Source: mender-artifact, Documentation/artifact-format-v3.md.

    Raises:
        InstallationError: what the module would read is not there.
    """
    header: dict[str, bytes] = {}
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(artifact), mode="r:") as whole:
        for member in whole:
            # The server compresses no artifact that it makes for a configuration.
            if member.name == "header.tar" and (packed := whole.extractfile(member)) is not None:
                with tarfile.open(fileobj=packed, mode="r:") as parts:
                    header = {part.name: file.read() for part in parts if (file := parts.extractfile(part)) is not None}
    try:
        if json.loads(header.get("headers/0000/type-info", b"{}")).get("type") != _CONFIGURE:
            return None
        values = json.loads(header["headers/0000/meta-data"])
        return {str(name): str(value) for name, value in values.items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise InstallationError(f"the artifact holds no configuration: {error!r}") from error


async def install(device: SimulatedDevice, content: Mapping[str, Any], artifacts: Artifacts) -> None:
    """Download, report each step, authenticate anew before the commit, report the end, then a new configuration.

    Args:
        device: Authenticated.
        content: What its update check was answered.
        artifacts: What other devices downloaded.

    Raises:
        InstallationError: the instructions or the artifact are not right; a failure was reported.
        RefusedError: a call was refused; 409 where an operator aborted the deployment.
        UnreachableError: no answer.
    """
    instructions = read_instructions(content)
    deployment = instructions.deployment_id
    await device.report_status(deployment, "downloading")
    try:
        configuration = await _fetch(device, instructions, artifacts)
    except DeviceError as error:
        await device.report_status(deployment, "failure")
        await device.report_log(deployment, error.what, datetime.now(UTC).isoformat(timespec="seconds"))
        raise
    await device.report_status(deployment, "installing")
    # Both clients do so: whether the server is still there for the new software is known only after that.
    await device.authenticate()
    await device.report_status(deployment, "installing")
    device.installed(instructions.artifact_name)
    await device.report_status(deployment, "success")
    await device.send_inventory()
    if configuration is not None:
        await device.report_configuration(configuration)


async def _fetch(device: SimulatedDevice, instructions: Instructions, artifacts: Artifacts) -> dict[str, str] | None:
    """The configuration that the artifact holds, if that is what it is for; nothing else is kept of it."""
    name = instructions.artifact_name
    found, content = await device.download(instructions.url)
    if found.length < _SMALLEST:
        raise InstallationError(f"the artifact {name} has {found.length} bytes: less than any Mender Artifact")
    configuration = read_configuration(content)
    if configuration is None:  # a configuration is one device's alone, with nothing to compare it to
        artifacts.check(name, found)
    return configuration

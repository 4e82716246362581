"""Whole deployments by the real client through the real edge: the update check, the download, the end."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtls_ambassador.lab.mender_client import MenderClient
from mtls_ambassador.lab.server import Fault
from tests.attempts import parse_requests
from tests.e2e.mender_operator import Operator, installed
from tests.e2e.mender_peer import seed_client
from tests.forged_tokens import claims_of
from tests.world import World, eventually, world

pytestmark = pytest.mark.needs("mender", "mender-artifact", "mender-cli", "unshare")

_DEPLOYMENTS = "/api/devices/v1/deployments/device/deployments"
_AUTH_REQUESTS = ("POST", "/api/devices/v1/authentication/auth_requests")
_DOWNLOADS = "/api/devices/v1/deployments/download/"
_MIB = 1024 * 1024


@dataclass
class Stage:
    """An edge, a Mender Server with one artifact, and a device that both have let in."""

    world: World
    client: MenderClient
    device_id: str
    payload: Path

    def deploy(self) -> str:
        return self.world.lab.create_deployment("first", "release-2", [self.device_id])

    def status(self) -> str:
        """What became of the deployment on the device."""
        (deployment,) = self.world.lab.deployments()
        return deployment.devices[self.device_id]

    def answers(self, start: str) -> list[int]:
        """The statuses of the answers to calls whose path starts so."""
        return [call.status for call in self.world.lab.calls() if call.path.startswith(start)]

    def installed(self) -> Path:
        return installed(self.client.state, self.payload.name)


@asynccontextmanager
async def _stage(size: int, *, bind_tokens: bool = False) -> AsyncIterator[Stage]:
    # Not pytest's directory, which is kept for some runs: that is too much for what is that large.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        payload = directory / "payload.bin"
        with payload.open("wb") as file:
            block = os.urandom(size // 32)
            for _ in range(32):
                file.write(block)
        async with world(directory / "world", bind_tokens=bind_tokens) as w:
            operator = Operator(directory, w.lab.url)
            await operator.log_in()
            artifact = await operator.write_artifact("release-2", payload)
            await operator.upload(artifact)
            artifact.unlink()
            holder = w.ca.device("device")
            client = seed_client(
                directory / "client",
                port=w.edge.port,
                trust=[w.directory / "ca.pem"],
                certificate=holder.pem,
                key=holder.key_pem,
                identity={"mac": "52:54:00:00:00:01"},
            )
            async with client:
                await eventually(lambda: any(device.inventory for device in w.lab.devices()), 30)
                (device,) = w.lab.devices()
                assert device.status == "accepted"
                yield Stage(w, client, device.id, payload)


def _checksum(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


async def test_device_re_authenticates_before_it_commits() -> None:
    async with _stage(32 * 1024) as stage:
        stage.deploy()
        await eventually(lambda: stage.world.lab.deployments()[0].status == "finished", 60)
        assert stage.status() == "success", stage.client.log_text()
        assert stage.installed().read_bytes() == stage.payload.read_bytes()

        device_calls = [(call.method, call.path.partition("?")[0], call.status) for call in stage.world.lab.calls()]
        (download,) = [number for number, call in enumerate(device_calls) if call[1].startswith(_DOWNLOADS)]
        reports = [number for number, call in enumerate(device_calls) if call[1].endswith("/status")]
        again = device_calls.index((*_AUTH_REQUESTS, 200), download)
        assert reports[0] < download < again < reports[-1]
        assert {device_calls[number][2] for number in reports} == {204}
        # The link led back to the edge, by the name that the device knows it by, and through its TLS.
        assert f"https://my-server.com:{stage.world.edge.port}/api/devices/" in stage.client.log_text()
        await eventually(lambda: stage.world.lab.devices()[0].inventory["artifact_name"] == "release-2", 30)


async def test_deployment_with_bound_tokens() -> None:
    async with _stage(32 * 1024, bind_tokens=True) as stage:
        stage.deploy()
        await eventually(lambda: stage.world.lab.deployments()[0].status == "finished", 60)
        assert stage.status() == "success", stage.client.log_text()
        assert stage.installed().read_bytes() == stage.payload.read_bytes()
        await eventually(lambda: stage.world.lab.devices()[0].inventory["artifact_name"] == "release-2", 30)
        assert stage.answers(_DOWNLOADS) == [200]
        # The device only had tokens of the edge, Mender only saw its own, and nobody was refused.
        requests = parse_requests(bytes(stage.world.relay.seen))
        assert {401} & {call.status for call in stage.world.lab.calls() if "/api/devices/" in call.path} == set()
        assert "token_refused" not in stage.world.log_text()
        shown = [
            request.headers["authorization"][0].removeprefix("Bearer ")
            for request in requests
            if request.target.startswith((_DEPLOYMENTS, "/api/devices/v1/inventory/"))
        ]
        assert len(shown) >= 5
        assert {claims_of(token)["iss"] for token in shown} == {"Mender"}


async def test_artifact_of_300_mb() -> None:
    async with _stage(300 * _MIB) as stage:
        stage.deploy()
        await eventually(lambda: stage.world.lab.deployments()[0].status == "finished", 60)
        assert stage.status() == "success", stage.client.log_text()
        assert stage.answers(_DOWNLOADS) == [200]
        assert _checksum(stage.installed()) == _checksum(stage.payload)


@pytest.mark.timeout(200)
async def test_interrupted_download_goes_on_where_it_was() -> None:
    """Slow by nature: the client waits a minute before it goes on, whatever its configuration says."""
    async with _stage(64 * _MIB) as stage:
        stage.deploy()
        arriving = stage.client.state / "modules/v3/payloads/0000/tree/files/payload.bin"
        await eventually(lambda: arriving.exists() and arriving.stat().st_size > _MIB, 30)
        stage.world.relay.cut()
        stage.world.relay.mend()
        await eventually(lambda: stage.world.lab.deployments()[0].status == "finished", 100)
        assert stage.status() == "success", stage.client.log_text()
        assert stage.answers(_DOWNLOADS) == [200, 206]
        assert _checksum(stage.installed()) == _checksum(stage.payload)


async def test_abort_by_an_operator_rolls_the_device_back() -> None:
    async with _stage(32 * 1024) as stage:
        stage.installed().parent.mkdir()
        stage.installed().write_bytes(b"old")
        # Slow enough to come in between two reports.
        stage.world.lab.faults = (Fault(latency=0.5, path=f"{_DEPLOYMENTS}/", method="PUT"),)
        deployment_id = stage.deploy()
        await eventually(lambda: stage.status() == "installing", 60)
        stage.world.lab.abort(deployment_id)
        await eventually(lambda: 409 in stage.answers(f"{_DEPLOYMENTS}/{deployment_id}/status"), 30)
        stage.world.lab.faults = ()
        checks = len(stage.answers(f"{_DEPLOYMENTS}/next"))
        await eventually(lambda: len(stage.answers(f"{_DEPLOYMENTS}/next")) > checks, 60)
        assert stage.answers(f"{_DEPLOYMENTS}/next")[-1] == 204
        assert stage.status() == "aborted"
        assert stage.world.lab.deployments()[0].status == "finished"
        assert stage.world.lab.devices()[0].inventory["artifact_name"] == "release-1"
        assert stage.installed().read_bytes() == b"old"

"""`lab device` against the real edge: dozens of devices with the habits of either client, and nothing fails."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mtls_ambassador.lab.transport import Style
from mtls_ambassador.pki import authority
from tests.certificates import CertificateAuthority
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEVICES = 60


@dataclass
class Scene:
    w: World
    ca: Path
    """A CA as `pki init` makes it; the edge trusts it beside its own."""

    async def devices(self, *options: str) -> tuple[int | None, dict[str, Any], str]:
        """Run `lab device`; returns exit status, summary and what it said on the way."""
        command = ("--server", self.w.url, "--ca", str(self.w.directory / "ca.pem"), "--address", "127.0.0.1")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mtls_ambassador", "lab", "device", *command, "--json", *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode, json.loads(out), err.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    directory = tmp_path_factory.mktemp("ca")
    issued = authority.init(directory, "Fleet CA")
    ca = CertificateAuthority("Server CA")
    bundle = ca.pem + issued.certificate_path.read_bytes()
    async with world(tmp_path_factory.mktemp("world"), ca=ca, bundle=bundle) as w:
        await eventually(lambda: w.edge.health().detail["management"]["state"] == "ok")
        yield Scene(w, directory)


@pytest.mark.parametrize("style", Style)
async def test_nothing_fails(scene: Scene, style: Style) -> None:
    before, calls = len(scene.w.lab.devices()), scene.w.edge.report()["management_calls"]
    status, summary, progress = await scene.devices(
        *("--ca-dir", str(scene.ca), "--count", str(DEVICES), "--style", style),
        *("--duration", "6s", "--ramp-up", "2s", "--interval", "2s", "--inventory-interval", "3s"),
    )
    assert summary["errors"] == {}
    assert status == 0
    kinds = summary["kinds"]
    assert kinds["authentication"]["statuses"] == {"200": DEVICES}
    assert kinds["inventory"]["statuses"].keys() == {"200"}
    assert kinds["inventory"]["count"] >= DEVICES
    assert kinds["update_check"]["statuses"].keys() == {"204", "404"}
    requests = sum(kind["count"] for name, kind in kinds.items() if name != "connection")
    if style is Style.CPP:
        assert kinds["connection"]["count"] == requests
    else:
        # Kept alive; on a busy machine an answer may overtake the end of its request, which costs the connection.
        assert DEVICES <= kinds["connection"]["count"] < requests / 3
    devices = scene.w.lab.devices()
    assert len(devices) == before + DEVICES
    assert {device.status for device in devices} == {"accepted"}
    assert scene.w.edge.report()["management_calls"] == calls + DEVICES, (
        "one for each device, and none for its requests"
    )
    assert f"of {DEVICES} authenticated" in progress


async def test_one_device_with_its_files_comes_back(scene: Scene) -> None:
    issued = authority.issue_device(scene.ca, "one", out=scene.ca / "one")
    files = ("--cert", str(issued.certificate_path), "--key", str(issued.key_path), "--duration", "1s")
    for _ in range(2):
        status, summary, _progress = await scene.devices(*files, "--identity", "mac=one")
        assert (status, summary["errors"]) == (0, {})
    assert scene.w.mender_device({"mac": "one"}).status == "accepted"


async def test_what_fails_is_told_and_is_the_exit_status(scene: Scene, tmp_path: Path) -> None:
    authority.init(tmp_path, "Stranger's CA")
    status, summary, progress = await scene.devices(
        *("--ca-dir", str(tmp_path), "--count", "3", "--duration", "1s", "--retry-interval", "10s")
    )
    assert status == 1
    assert sum(summary["errors"].values()) == 3
    assert summary["kinds"]["authentication"]["statuses"] == {"none": 3}
    assert "3 errors" in progress

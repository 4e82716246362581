"""The compose file's containers without their engine, as `docker compose up` would start them.

`python -m tests.compose DIRECTORY` is run by a test inside a network namespace of its own, as `tests.container` is.
Each service has an address of loopback, so that nothing reaches one that listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.certificates import SeedPki, seed_pki
from tests.connected_device import ConnectedDevice
from tests.container import (
    DOCKERFILE,
    IDENTITY,
    NOBODY,
    PASSWORD,
    USER,
    Image,
    Run,
    as_device,
    contained,
    given_to_the_user,
    loopback_up,
    probes,
    serves_as_promised,
)
from tests.sandbox import Bind
from tests.unit.lab.server.artifact import artifact
from tests.unit.lab.server.peer import ARTIFACTS, DEVAUTH, USERADM, basic, multipart

FILE = DOCKERFILE.with_name("compose.yaml")
ADDRESSES = {"edge": "127.0.0.2", "mender": "127.0.0.3"}

_UNDERSTOOD = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "ports", "read_only",
    "restart", "security_opt", "stop_grace_period", "tmpfs", "ulimits", "volumes",
}  # fmt: skip


def read(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file, with these variables of the shell in their places."""

    def value(found: re.Match[str]) -> str:
        return variables[found[1]]

    content = yaml.safe_load(re.sub(r"\$\{(\w+)(?::\?[^}]*)?\}", value, FILE.read_text(encoding="utf-8")))
    assert isinstance(content, dict)
    return content


def run_of(service: Mapping[str, Any], volumes: Path) -> Run:
    """What a service is started with.

    Args:
        service: As the file has it; fails on what is not understood here.
        volumes: Directory for those that have a name.
    """
    assert service.keys() <= _UNDERSTOOD, service.keys() - _UNDERSTOOD
    # A sandbox is so in any case.
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    return Run(
        environment=service["environment"],
        binds=[_bind(volume, volumes) for volume in service.get("volumes", ())],
        ports=service.get("ports", ()),
        arguments=service.get("command", ()),
        # What the engine adds.
        tmpfs={
            place: f"noexec,nosuid,nodev,{options}"
            for place, _, options in (line.partition(":") for line in service.get("tmpfs", ()))
        },
        hosts={"localhost": "127.0.0.1", **ADDRESSES},
        read_only=service["read_only"],
        open_files=service.get("ulimits", {}).get("nofile"),
    )


def _bind(volume: str | Mapping[str, Any], volumes: Path) -> Bind:
    if not isinstance(volume, str):
        return Bind(Path(volume["source"]), volume["target"], volume.get("read_only", False))
    name, target = volume.split(":")
    directory = volumes / name
    directory.mkdir(parents=True, exist_ok=True)
    # A new one is root's, but where the image has a directory: that is copied, with its owner.
    if target == Image.read().environment["MTLS_STATE_DIR"]:
        directory.chmod(0o700)
        os.chown(directory, NOBODY, NOBODY)
    return Bind(directory, target)


async def _all_of_it_works(directory: Path) -> None:
    loopback_up()
    pki = seed_pki(directory)
    given_to_the_user(pki)
    services = read({"LAB_PASSWORD": PASSWORD, "CERTIFICATES": str(directory)})["services"]
    assert services.keys() == ADDRESSES.keys()
    edge, mender = (run_of(services[name], directory / "volumes") for name in ("edge", "mender"))
    async with _lab(mender, directory) as lab:
        await lab.upload(artifact(files={"large.bin": os.urandom(20_000_000)}, compression=""))
        await _edge_admits(edge, directory, pki, lab)
    # What was in volumes is there when they come again.
    async with _lab(mender, directory) as lab:
        assert await lab.names() == ["release-2"]
        await _edge_admits(edge, directory, pki, lab)


async def _edge_admits(run: Run, directory: Path, pki: SeedPki, lab: Lab) -> None:
    image, address = Image.read(), ADDRESSES["edge"]
    async with contained(image, run, directory) as edge:
        await serves_as_promised(edge)
        await probes(image, address)
        async with as_device(pki, address) as device:
            ((device_id, identity, status),) = await lab.devices()
            assert (identity, status) == (IDENTITY, "accepted")
            async with device.connect() as socket:
                connected = ConnectedDevice(socket)
                running = asyncio.create_task(connected.run())
                # More than what is kept in memory on its way.
                await lab.send_file(device_id, "/tmp/here.bin", content := os.urandom(2_000_000))
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            assert connected.files == {"/tmp/here.bin": content}
        assert "release-2" in (page := await lab.page())
        assert IDENTITY["mac"] in page
        assert "cannot be written" not in edge.log_text()
        assert await edge.stop() == 0


class Lab:
    """The lab's server for its user, from outside."""

    def __init__(self, http: aiohttp.ClientSession, token: str) -> None:
        self._http = http
        self._token = {"Authorization": f"Bearer {token}"}

    async def upload(self, content: bytes) -> None:
        """Upload an artifact as mender-cli does."""
        boundary, body = multipart(content)
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        async with self._http.post(ARTIFACTS, data=body, headers=self._token | kind) as found:
            assert found.status == 201, await found.text()

    async def names(self) -> list[str]:
        """The names of all artifacts."""
        async with self._http.get(ARTIFACTS, headers=self._token) as found:
            return [entry["name"] for entry in await found.json()]

    async def devices(self) -> list[tuple[str, dict[str, str], str]]:
        """Id, identity and status of all devices."""
        async with self._http.get(f"{DEVAUTH}/devices", headers=self._token) as found:
            return [(entry["id"], entry["identity_data"], entry["status"]) for entry in await found.json()]

    async def send_file(self, device_id: str, path: str, content: bytes) -> None:
        """Write a file on a device that is connected."""
        form = aiohttp.FormData()
        form.add_field("path", path)
        form.add_field("file", content, filename="here.bin")
        place = f"/api/management/v1/deviceconnect/devices/{device_id}/upload"
        async with self._http.put(place, data=form, headers=self._token) as found:
            assert found.status == 201, await found.text()

    async def page(self) -> str:
        """What a browser is shown."""
        async with self._http.get("/", headers=basic(USER, PASSWORD)) as found:
            assert found.status == 200
            return await found.text()


@contextlib.asynccontextmanager
async def _lab(run: Run, directory: Path) -> AsyncIterator[Lab]:
    async with contained(Image.read(), run, directory) as mender:
        await mender.line("lab Mender Server on")
        mender.assert_runs_as(NOBODY)
        async with aiohttp.ClientSession(f"http://{ADDRESSES['mender']}:9080") as http:
            async with http.post(f"{USERADM}/auth/login", headers=basic(USER, PASSWORD)) as found:
                assert found.status == 200
                token = await found.text()
            yield Lab(http, token)
        assert await mender.stop() == 0


if __name__ == "__main__":
    asyncio.run(_all_of_it_works(Path(sys.argv[1])))

"""The real `devices preauthorize` puts a manifest's keys into Mender, without an edge, and may be run again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.server import LabServer, LabSettings
from mtls_ambassador.lab.server.faults import Fault
from tests.certificates import CertificateAuthority, Holder
from tests.edge_process import PROGRAM
from tests.world import PASSWORD, USER, eventually

DEVICES = "/api/management/v2/devauth/devices"


@dataclass
class Scene:
    directory: Path
    ca: CertificateAuthority
    lab: LabServer

    @property
    def url(self) -> str:
        return f"https://localhost:{self.lab.port}"

    async def start(self, *arguments: str, **settings: str) -> asyncio.subprocess.Process:
        given = {
            "MTLS_MENDER_BACKEND": self.url,
            "MTLS_MENDER_USER": USER,
            "MTLS_MENDER_PASS": PASSWORD,
            "MTLS_MENDER_CA": "mender-ca.pem",
        }
        return await asyncio.create_subprocess_exec(
            *PROGRAM,
            *arguments,
            cwd=self.directory,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory), **given, **settings},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **settings: str) -> tuple[int | None, str, str]:
        """Status, standard output and error."""
        return await self.ended(await self.start(*arguments, **settings))

    async def ended(self, process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
        try:
            async with asyncio.timeout(60):
                out, err = (stream.decode() for stream in await process.communicate())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert "Traceback" not in out + err
        assert PASSWORD not in out + err
        return process.returncode, out, err

    async def summary(self, manifest: str, *options: str, **settings: str) -> tuple[int | None, dict[str, Any], str]:
        """Status, the summary in JSON, and standard error."""
        arguments = ("devices", "preauthorize", manifest, "--json", "--rate", "off", *options)
        status, out, err = await self.run(*arguments, **settings)
        return status, json.loads(out) if out else {}, err

    def statuses(self) -> dict[str, str]:
        """The status of each device's only key, by its mac."""
        return {str(device.identity["mac"]): device.auth_sets[0].status for device in self.lab.devices()}

    def calls(self, status: int) -> int:
        return [(call.method, call.path, call.status) for call in self.lab.calls()].count(("POST", DEVICES, status))

    def knock(self, identity: Mapping[str, Any], holder: Holder) -> SimulatedDevice:
        """A device that asks Mender itself; use `async with`."""
        certificate, key = holder.write(self.directory, "other")
        return SimulatedDevice(self.url, self.directory / "mender-ca.pem", certificate, key, identity)


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[Scene]:
    ca = CertificateAuthority("Mender's CA")
    certificate, key = ca.server("localhost").write(directory, "mender")
    (directory / "mender-ca.pem").write_bytes(ca.pem)
    async with LabServer(LabSettings(user=USER, password=PASSWORD), tls=(certificate, key)) as lab:
        yield Scene(directory, ca, lab)


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with served(tmp_path) as scene:
        yield scene


def write_manifest(scene: Scene, number: int) -> list[Holder]:
    """`m.csv` with so many certificates, from line 2 on."""
    holders = [scene.ca.device(f"device-{index}") for index in range(number)]
    lines = ["identity,certificate"]
    for index, holder in enumerate(holders):
        (scene.directory / f"{index}.pem").write_bytes(holder.chain_pem)
        lines.append(f"mac={index},{index}.pem")
    (scene.directory / "m.csv").write_text("\n".join(lines) + "\n")
    return holders


async def test_a_batch_is_preauthorised_and_its_devices_are_accepted(scene: Scene) -> None:
    assert (await scene.run("pki", "init", "--cn", "My CA"))[0] == 0
    batch = ("pki", "batch", "--count", "3", "--cn", "d-{n}", "--identity", "mac={n}", "--out", "batch")
    status, _, err = await scene.run(*batch)
    assert status == 0, err

    status, said, err = await scene.summary("batch/manifest.csv", "--dry-run")
    assert (status, said["usable"], scene.lab.calls()) == (0, 3, ()), err

    status, said, err = await scene.summary("batch/manifest.csv")
    assert (status, said["created"], said["known"], said["failed"], said["next_line"]) == (0, 3, 0, [], None), err
    assert scene.statuses() == dict.fromkeys(("1", "2", "3"), "preauthorized")
    assert scene.calls(201) == 3

    status, said, err = await scene.summary("batch/manifest.json", "--check")
    assert (status, said["created"], said["known"], said["failed"]) == (0, 0, 3, []), err
    assert scene.calls(409) == 3
    assert scene.statuses() == dict.fromkeys(("1", "2", "3"), "preauthorized")

    (folder,) = [row for row in json.loads((scene.directory / "batch/manifest.json").read_text()) if row["cn"] == "d-2"]
    files = (scene.directory / "batch" / folder["certificate"], scene.directory / "batch" / folder["key"])
    device = SimulatedDevice(scene.url, scene.directory / "mender-ca.pem", *files, {"mac": "2"})
    async with device:
        await device.authenticate()
    assert scene.statuses()["2"] == "accepted"


async def test_bad_lines_are_named_and_the_rest_goes_on(scene: Scene) -> None:
    write_manifest(scene, 2)
    with (scene.directory / "m.csv").open("a") as file:
        file.write("mac=2,none.pem\nmac=3,mender-ca.pem,x\nmac=1,0.pem\n")
    status, said, err = await scene.summary("m.csv")
    assert status == 1
    assert (said["created"], [each["line"] for each in said["failed"]]) == (2, [4, 5, 6])
    assert "line 4: its certificate none.pem cannot be read: No such file" in err
    assert scene.statuses() == dict.fromkeys("01", "preauthorized")


async def test_a_line_that_mender_refuses_is_named_and_the_rest_goes_on(scene: Scene) -> None:
    write_manifest(scene, 2)
    scene.lab.faults = (Fault(status=400, path=DEVICES, method="POST", count=1),)
    status, said, err = await scene.summary("m.csv")
    assert (status, said["created"], len(said["failed"])) == (1, 1, 1), err
    assert "answered 400" in said["failed"][0]["reason"]


async def test_check_finds_the_device_that_would_not_get_in(scene: Scene) -> None:
    holders = write_manifest(scene, 3)
    for mac, holder in (("0", scene.ca.device("stranger")), ("1", holders[1])):
        async with scene.knock({"mac": mac}, holder) as device:
            with pytest.raises(Exception, match="401"):
                await device.authenticate()
    status, said, err = await scene.summary("m.csv")
    assert (status, said["created"], said["known"]) == (0, 1, 2), err

    before = scene.lab.devices()
    status, said, _ = await scene.summary("m.csv", "--check")
    assert (status, said["known"]) == (1, 1)
    reasons = {each["line"]: each["reason"] for each in said["failed"]}
    assert "another key" in reasons[2]
    assert "this key as pending" in reasons[3]
    assert scene.lab.devices() == before


async def test_it_waits_when_mender_says_so(scene: Scene) -> None:
    write_manifest(scene, 20)
    scene.lab.faults = (Fault(status=429, retry_after=1, path=DEVICES, method="POST", count=1),)
    status, said, err = await scene.summary("m.csv")
    assert (status, said["created"], said["failed"]) == (0, 20, []), err
    assert "trying again in 1 s" in err
    assert (scene.calls(429), scene.calls(201)) == (1, 20)


async def test_interrupted_it_says_where_to_go_on(scene: Scene) -> None:
    write_manifest(scene, 30)
    assert (await scene.summary("m.csv", "--skip-until", "22"))[1]["created"] == 10
    scene.lab.faults = (Fault(status=429, retry_after=200, path=DEVICES, method="POST"),)
    process = await scene.start("devices", "preauthorize", "m.csv")
    await eventually(lambda: scene.calls(429), 60)
    process.send_signal(signal.SIGINT)
    status, out, err = await scene.ended(process)
    assert status == 130, err
    assert "--skip-until 2 goes on here" in out

    scene.lab.faults = ()
    status, said, _ = await scene.summary("m.csv", "--skip-until", "2")
    assert (status, said["created"], said["known"]) == (0, 20, 10)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"MTLS_MENDER_CA": "other.pem"}, "cannot be trusted"),
        ({"MTLS_MENDER_PASS": "wrong"}, "does not accept mender_user"),
        ({"MTLS_MENDER_USER": "", "MTLS_MENDER_PASS": ""}, "mender_user: is not set"),
    ],
)
async def test_a_server_or_user_that_is_wrong_ends_it(scene: Scene, settings: dict[str, str], fault: str) -> None:
    write_manifest(scene, 3)
    (scene.directory / "other.pem").write_bytes(CertificateAuthority("Another").pem)
    status, _, err = await scene.summary("m.csv", **settings)
    assert status in (1, 2)
    assert fault in err
    assert not scene.lab.devices()


async def test_a_certificate_of_another_name_is_not_trusted(scene: Scene) -> None:
    write_manifest(scene, 1)
    _, _, err = await scene.summary("m.csv", MTLS_MENDER_BACKEND=f"https://127.0.0.1:{scene.lab.port}")
    assert "cannot be trusted" in err
    assert not scene.lab.calls()


@pytest.mark.parametrize("way", ["token", "unverified"])
async def test_other_ways_to_call(scene: Scene, way: str) -> None:
    write_manifest(scene, 1)
    ways: dict[str, Callable[[], dict[str, str]]] = {
        "token": lambda: {
            "MTLS_MENDER_USER": "",
            "MTLS_MENDER_PASS": "",
            "MTLS_MENDER_TOKEN": scene.lab.create_token("t"),
        },
        "unverified": lambda: {"MTLS_MENDER_CA": "", "MTLS_INSECURE_SKIP_VERIFY": "true"},
    }
    status, said, err = await scene.summary("m.csv", **ways[way]())
    assert (status, said["created"]) == (0, 1), err

"""No data plane that nobody supervises: however Python dies, Envoy dies; if Envoy dies, it is back within 2 s."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import CertificateAuthority
from tests.edge_process import EdgeProcess, alive
from tests.world import PASSWORD, USER, edge_environment, eventually, write_settings_files


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[EdgeProcess]:
    ca = CertificateAuthority()
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    ca.device("device").write(tmp_path, "device")
    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as lab:
        environment = edge_environment(tmp_path, lab.url, files, shutdown_grace="1s") | {"SECRET": "x"}
        async with EdgeProcess(environment, directory=tmp_path) as process:
            yield process


def _device(edge: EdgeProcess, directory: Path) -> SimulatedDevice:
    return SimulatedDevice(
        f"https://my-server.com:{edge.port}",
        directory / "ca.pem",
        directory / "device.pem",
        directory / "device.key",
        {"mac": "52:54:00:00:00:01"},
        address="127.0.0.1",
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM, signal.SIGINT])
async def test_envoy_does_not_outlive_python(edge: EdgeProcess, number: signal.Signals) -> None:
    pids = edge.envoy_pids()
    assert len(pids) == 1
    await edge.stop(number)
    await eventually(lambda: not any(map(alive, pids)), 5)


async def test_a_killed_envoy_is_back_within_two_seconds(edge: EdgeProcess, tmp_path: Path) -> None:
    async with _device(edge, tmp_path) as device:
        await device.authenticate()
    (first,) = edge.envoy_pids()

    os.kill(first, signal.SIGKILL)
    began = time.monotonic()
    await edge.line("envoy serves again", 2)
    assert time.monotonic() - began < 2

    async with _device(edge, tmp_path) as device:
        await device.authenticate()
        await device.send_inventory()
    assert edge.envoy_pids() != [first]


async def test_envoy_gets_an_empty_environment_and_no_secret_on_its_command_line(edge: EdgeProcess) -> None:
    (pid,) = edge.envoy_pids()
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert PASSWORD.encode() not in Path(f"/proc/{edge.process.pid}/cmdline").read_bytes()


async def test_nothing_is_left_in_the_temporary_directory(edge: EdgeProcess, tmp_path: Path) -> None:
    (pid,) = edge.envoy_pids()
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    work = Path(command[command.index(b"--config-path") + 1].decode()).parent
    assert work.stat().st_mode & 0o777 == 0o700
    sockets = [path for path in work.rglob("*") if path.is_socket()]
    assert len(sockets) == 3
    assert {path.stat().st_mode & 0o777 for path in sockets} == {0o600}
    assert {path.stat().st_mode & 0o077 for path in work.rglob("*")} == {0}

    assert await edge.stop() == 0
    assert not work.exists()

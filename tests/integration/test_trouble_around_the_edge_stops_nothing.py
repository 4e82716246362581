"""A log nobody reads, a key file replaced too early, a signal too soon: the edge serves, or ends and says why."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import CertificateAuthority
from tests.edge_process import PROGRAM, EdgeProcess, alive
from tests.world import PASSWORD, USER, edge_environment, eventually, write_settings_files


@pytest.fixture
async def lab() -> AsyncIterator[LabServer]:
    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as running:
        yield running


def _prepare(directory: Path, backend: str, **options: object) -> dict[str, str]:
    ca = CertificateAuthority()
    files = write_settings_files(directory, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    ca.device("device").write(directory, "device")
    return edge_environment(directory, backend, files, shutdown_grace="1s", **options)


def _device(directory: Path, port: int) -> SimulatedDevice:
    return SimulatedDevice(
        f"https://my-server.com:{port}",
        directory / "ca.pem",
        directory / "device.pem",
        directory / "device.key",
        {"mac": "52:54:00:00:00:01"},
        address="127.0.0.1",
    )


async def test_a_log_that_nobody_reads_any_more(tmp_path: Path, lab: LabServer) -> None:
    """Admission goes on, and so does the care for Envoy."""
    environment = {"PATH": os.environ["PATH"], **_prepare(tmp_path, lab.url)}
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, env=environment, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        line = b""
        while b"the edge serves devices" not in line:
            line = await process.stderr.readline()
        while b"management API answers" not in await process.stderr.readline():
            pass
        port = int(re.search(rb"listen=\S*?:(\d+)", line)[1])  # type: ignore[index]
        process.stderr._transport.close()  # type: ignore[attr-defined]

        async with _device(tmp_path, port) as device:
            await device.authenticate()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (first,) = map(int, children.read_text().split())
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: children.read_text().split() not in ([], [str(first)]), 5)
        async with _device(tmp_path, port) as device:
            await asyncio.sleep(0)
            await _until_admitted(device)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_admitted(device: SimulatedDevice) -> None:
    for _ in range(200):
        try:
            await device.authenticate()
        except Exception:  # it is being started again
            await asyncio.sleep(0.02)
        else:
            return
    raise AssertionError("the device did not get in")


async def test_a_key_replaced_without_its_certificate_is_not_called_ready(tmp_path: Path, lab: LabServer) -> None:
    """Envoy, started again, would serve without a certificate and refuse every device."""
    async with EdgeProcess(_prepare(tmp_path, lab.url), directory=tmp_path) as edge:
        _, other = CertificateAuthority().server("my-server.com").write(tmp_path, "other")
        other.rename(tmp_path / "server.key")
        (pid,) = edge.envoy_pids()
        os.kill(pid, signal.SIGKILL)
        line = await edge.line("does not belong to the certificate")
        assert "server_key" in line
        assert await asyncio.wait_for(edge.process.wait(), 60) == 1
        assert "Envoy does not take the server certificate" in edge.log_text()
        assert "envoy serves again" not in edge.log_text()


async def test_a_renewed_certificate_is_taken_at_the_next_start_of_envoy(tmp_path: Path, lab: LabServer) -> None:
    ca = CertificateAuthority()
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    ca.device("device").write(tmp_path, "device")
    async with EdgeProcess(edge_environment(tmp_path, lab.url, files), directory=tmp_path) as edge:
        await edge.line("Mender's management API answers")
        ca.server("my-server.com", san=["DNS:my-server.com"]).write(tmp_path, "server")
        (pid,) = edge.envoy_pids()
        os.kill(pid, signal.SIGKILL)
        await edge.line("envoy serves again")
        async with _device(tmp_path, edge.port) as device:
            await device.authenticate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_start(tmp_path: Path, number: signal.Signals) -> None:
    """An Envoy that hangs while it starts does not keep the edge from stopping."""
    envoy = tmp_path / "envoy"
    envoy.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        "if sys.argv[1] == '--version':\n    print('version: 0/1.39.3/Clean/RELEASE/BoringSSL')\nelse:\n"
        "    print('warning\\tmain\\thanging', file=sys.stderr, flush=True)\n    time.sleep(600)\n"
    )
    envoy.chmod(0o755)
    environment = _prepare(tmp_path, "http://127.0.0.1:9", envoy_path=envoy)
    async with EdgeProcess(environment, directory=tmp_path, wait=False) as edge:
        await edge.line("hanging")
        children = Path(f"/proc/{edge.process.pid}/task/{edge.process.pid}/children").read_text().split()
        assert await asyncio.wait_for(edge.stop(number), 10) == 0
        assert "stopped before it served" in edge.log_text()
        await eventually(lambda: not any(alive(int(pid)) for pid in children))

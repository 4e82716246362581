"""An Envoy that cannot start, or not again, ends the edge with status 1 and its last words, not with a silent loop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from mtls_ambassador.edge.binary import find_envoy
from tests.certificates import CertificateAuthority
from tests.edge_process import EdgeProcess
from tests.world import edge_environment, write_settings_files


def _environment(directory: Path, envoy: Path) -> dict[str, str]:
    ca = CertificateAuthority()
    files = write_settings_files(directory, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    return edge_environment(directory, "http://127.0.0.1:9", files, envoy_path=envoy)


def _script(path: Path, text: str) -> Path:
    """Write a program in place at once, since the old one may be running."""
    new = path.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{text}\n")
    new.chmod(0o755)
    return new.rename(path)


_VERSION = '[ "$1" = --version ] && { echo "envoy  version: 0/1.39.3/Clean/RELEASE/BoringSSL"; exit; }\n'


async def test_an_envoy_that_never_starts(tmp_path: Path) -> None:
    envoy = _script(tmp_path / "envoy", _VERSION + "printf 'critical\\tmain\\tno such thing\\n' >&2; exit 3")
    async with EdgeProcess(_environment(tmp_path, envoy), directory=tmp_path, wait=False) as edge:
        assert await edge.process.wait() == 1
    assert "Envoy ended while starting (status 3): no such thing" in edge.log_text()
    assert "Traceback" not in edge.log_text()


async def test_an_envoy_that_cannot_be_started_again(tmp_path: Path) -> None:
    envoy = _script(tmp_path / "envoy", f'exec {find_envoy(None).path} "$@"')
    async with EdgeProcess(_environment(tmp_path, envoy), directory=tmp_path) as edge:
        _script(envoy, "exit 7")
        (pid,) = edge.envoy_pids()
        os.kill(pid, signal.SIGKILL)
        assert await edge.process.wait() == 1
    assert "envoy ended unexpectedly (signal SIGKILL)" in edge.log_text()
    assert "mtls-ambassador: Envoy could not be kept running" in edge.log_text()
    assert "Traceback" not in edge.log_text()


async def test_an_envoy_that_is_too_old(tmp_path: Path) -> None:
    envoy = _script(tmp_path / "envoy", 'echo "envoy  version: 0/1.22.0/Clean/RELEASE/BoringSSL"')
    async with EdgeProcess(_environment(tmp_path, envoy), directory=tmp_path, wait=False) as edge:
        assert await edge.process.wait() == 2
    assert "is Envoy 1.22.0" in edge.log_text()

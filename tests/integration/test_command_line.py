"""The real program tells in words why it does not start, with a status that says whether trying again is of use."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtls_ambassador import __version__
from tests.certificates import CertificateAuthority
from tests.edge_process import PROGRAM, EdgeProcess
from tests.peers import unavailable
from tests.world import PASSWORD, USER, write_settings_files

NOBODY = 65534
INSTALLED = Path(sys.executable).with_name("mtls-ambassador")


@dataclass
class Ended:
    """How the program ended."""

    status: int | None
    out: str
    err: str


async def ended(
    *arguments: str,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
) -> Ended:
    """Run the program until it ends by itself; no traceback and no secret is in what it prints."""
    process = await asyncio.create_subprocess_exec(
        *program,
        *arguments,
        cwd=directory,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(directory), **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = Ended(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in found.out + found.err
    assert PASSWORD not in found.out + found.err
    assert "PRIVATE KEY" not in found.out + found.err
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables that are enough to start an edge on free ports, before a Mender Server that is not there."""
    ca = CertificateAuthority()
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com"))
    return {
        "MTLS_MENDER_BACKEND": "http://127.0.0.1:9",
        "MTLS_MENDER_USER": USER,
        "MTLS_MENDER_PASS": PASSWORD,
        "MTLS_LISTEN": "127.0.0.1:0",
        "MTLS_HEALTH_LISTEN": "127.0.0.1:0",
        "MTLS_ADMIN_LISTEN": "127.0.0.1:0",
        "MTLS_STATE_DIR": str(tmp_path / "state"),
        **{f"MTLS_{key.upper()}": str(path) for key, path in files.items()},
    }


@pytest.mark.parametrize("program", [PROGRAM, (str(INSTALLED),)], ids=["module", "installed"])
async def test_the_version(tmp_path: Path, program: Sequence[str]) -> None:
    if not Path(program[0]).is_file():
        unavailable(f"{program[0]} is not installed: make install")
    found = await ended("--version", directory=tmp_path, program=program)
    assert found == Ended(0, f"mtls-ambassador {__version__}\n", "")


async def test_help(tmp_path: Path) -> None:
    found = await ended("help", directory=tmp_path)
    assert (found.status, found.err) == (0, "")
    assert found.out.startswith("Usage: mtls-ambassador ")


async def test_it_starts_with_the_environment_only(tmp_path: Path, environment: dict[str, str]) -> None:
    async with EdgeProcess({**environment, "MTLS_LISTNE": "1"}, directory=tmp_path) as edge:
        line = await edge.line("the edge serves devices")
        assert f"listen=127.0.0.1:{edge.port}" in line
        assert "mender=http://127.0.0.1:9" in line
        assert f"version={__version__}" in line
        assert await edge.line("environment MTLS_LISTNE is not a setting and is ignored; did you mean MTLS_LISTEN?")
        assert await edge.stop() == 0


async def test_it_starts_with_a_file_and_a_secret_in_another(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    settings = {name.removeprefix("MTLS_").lower(): value for name, value in environment.items()}
    del settings["mender_pass"]
    settings["mender_pass_file"] = str(tmp_path / "secret")
    (tmp_path / "config.yaml").write_text("".join(f'{key}: "{value}"\n' for key, value in settings.items()))
    async with EdgeProcess({}, directory=tmp_path) as edge:
        assert edge.port > 0
        assert PASSWORD not in edge.log_text()
        assert await edge.stop() == 0


async def test_nothing_configured_is_2(tmp_path: Path) -> None:
    found = await ended(directory=tmp_path)
    assert (found.status, found.out) == (2, "")
    assert found.err.startswith("mtls-ambassador: mender_backend: is not set\n  Set MTLS_MENDER_BACKEND, or ")


async def test_an_unknown_key_is_2(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "edge.yaml").write_text("listne: 8080\n")
    found = await ended("--config", "edge.yaml", directory=tmp_path, environment=environment)
    assert (found.status, found.out) == (2, "")
    assert found.err == "mtls-ambassador: listne (edge.yaml): is not a known key\n  Did you mean listen?\n"


async def test_broken_syntax_is_2_and_tells_no_secret(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"mender_pass: *{PASSWORD}\n")
    found = await ended(directory=tmp_path)
    assert (found.status, found.out) == (2, "")
    assert "config.yaml: is not valid YAML: line 1, column 14: a value that begins with *" in found.err


async def test_a_wrong_option_is_2(tmp_path: Path, environment: dict[str, str]) -> None:
    found = await ended("--listen", "localhost:8080", directory=tmp_path, environment=environment)
    assert (found.status, found.out) == (2, "")
    assert "listen (command line --listen): 'localhost:8080' holds no IP address before the port" in found.err


async def test_a_missing_key_is_2(tmp_path: Path, environment: dict[str, str]) -> None:
    Path(environment["MTLS_SERVER_KEY"]).unlink()
    found = await ended(directory=tmp_path, environment=environment)
    assert (found.status, found.out) == (2, "")
    assert found.err == (
        f"mtls-ambassador: server_key ({environment['MTLS_SERVER_KEY']}): cannot be read: No such file or directory\n"
        "  Set server_key to the right path, or put the file there.\n"
    )


@pytest.mark.needs("setpriv")
async def test_an_unreadable_key_is_2(tmp_path: Path, environment: dict[str, str]) -> None:
    key = Path(environment["MTLS_SERVER_KEY"])
    program: Sequence[str] = PROGRAM
    if os.geteuid() == 0:  # root without its capabilities is a user like any other
        os.chown(key, NOBODY, NOBODY)
        program = ("setpriv", "--inh-caps=-all", "--bounding-set=-all", *PROGRAM)
    else:
        key.chmod(0)
    found = await ended(directory=tmp_path, environment=environment, program=program)
    assert (found.status, found.out) == (2, "")
    assert (
        f"server_key ({key}): cannot be read: Permission denied\n  Let the user the edge runs as read it" in found.err
    )


async def test_a_key_of_another_certificate_is_2(tmp_path: Path, environment: dict[str, str]) -> None:
    Path(environment["MTLS_SERVER_KEY"]).write_bytes(CertificateAuthority().key_pem)
    found = await ended(directory=tmp_path, environment=environment)
    assert found.status == 2
    assert "does not belong to the certificate in" in found.err


@pytest.mark.parametrize("setting", ["listen", "health_listen", "admin_listen"])
async def test_a_taken_port_is_1(tmp_path: Path, environment: dict[str, str], setting: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        taken = {**environment, f"MTLS_{setting.upper()}": address}
        found = await ended(directory=tmp_path, environment=taken)
    assert (found.status, found.out) == (1, "")
    assert f"mtls-ambassador: cannot listen on {address}: Address already in use\n" in found.err
    assert "Stop the program that holds the port, or choose another." in found.err


async def test_a_missing_envoy_is_2(tmp_path: Path, environment: dict[str, str]) -> None:
    found = await ended("--envoy-path", "/none/envoy", directory=tmp_path, environment=environment)
    assert (found.status, found.out) == (2, "")
    assert "mtls-ambassador: the Envoy binary /none/envoy does not run: " in found.err
    assert "Set envoy_path to a working one." in found.err
    assert not list(tmp_path.glob("mtls-edge-*"))


async def test_an_output_that_nobody_reads_is_no_traceback(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "--help", cwd=tmp_path, stdout=write, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
    finally:
        os.close(write)
    assert process.returncode == 1
    assert err == b""

"""What the document does with openssl and curl, done with ours: a closed door, an open one, and readable files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.edge_process import PROGRAM, EdgeProcess
from tests.world import PASSWORD, USER, edge_environment

pytestmark = pytest.mark.needs("openssl", "curl")


def _run(*command: object, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _pki(directory: Path, *arguments: str) -> None:
    done = _run(*PROGRAM, "pki", *arguments, directory=directory)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa3072", "ed25519"])
def test_openssl_verifies_what_pki_makes(tmp_path: Path, kind: str) -> None:
    _pki(tmp_path, "init", "--cn", "My CA", "--key-type", kind, "--organization", "My Organization", "--country", "NO")
    _pki(tmp_path, "server", "--cn", "my-server.com", "--san", "IP:192.0.2.1")
    _pki(tmp_path, "device", "--cn", "my-device.example.com", "--key-type", kind)
    for name, purpose in (("server", "sslserver"), ("device", "sslclient")):
        done = _run(
            "openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca-cert.pem", f"{name}-cert.pem",
            directory=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        text = _run("openssl", "x509", "-noout", "-text", "-in", f"{name}-cert.pem", directory=tmp_path).stdout
        assert "Digital Signature" in text
        assert (tmp_path / f"{name}-private.key").stat().st_mode & 0o777 == 0o600
    server = _run("openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", "server-cert.pem", directory=tmp_path)
    assert "DNS:my-server.com" in server.stdout
    assert "IP Address:192.0.2.1" in server.stdout


async def test_a_closed_door_and_an_open_one(tmp_path: Path) -> None:
    _pki(tmp_path, "init", "--cn", "My CA")
    _pki(tmp_path, "server", "--cn", "my-server.com")
    _pki(tmp_path, "device", "--cn", "my-device")
    files = {
        "server_cert": tmp_path / "server-cert.pem",
        "server_key": tmp_path / "server-private.key",
        "tenant_ca_pem": tmp_path / "ca-cert.pem",
    }
    async with (
        LabServer(LabSettings(user=USER, password=PASSWORD)) as lab,
        EdgeProcess(edge_environment(tmp_path, lab.url, files), directory=tmp_path) as edge,
    ):
        _run("openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", directory=tmp_path)
        line = await edge.line("TLS handshake error from 127.0.0.1:")
        assert "the client did not provide a certificate" in line

        status = _run(
            "curl", "--silent", "--show-error", "--fail",
            "--resolve", f"my-server.com:{edge.port}:127.0.0.1", "--cacert", "ca-cert.pem",
            "--cert", "device-cert.pem", "--key", "device-private.key", f"https://my-server.com:{edge.port}/status",
            directory=tmp_path,
        )  # fmt: skip
        assert status.stdout == '{"status":"ok"}', status.stderr

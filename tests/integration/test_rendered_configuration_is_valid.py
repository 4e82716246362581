"""Envoy itself accepts what is rendered: every golden file, with the files it names in place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mtls_ambassador.edge.binary import find_envoy
from tests.certificates import CertificateAuthority
from tests.unit.edge.plans import CA, DIRECTORY, GOLDENS, SERVER, SYSTEM_TRUST, VARIANTS
from tests.world import world


def put_in_place(name: str, directory: Path) -> Path:
    """Write a golden file and what it names into `directory`; the path of the bootstrap."""
    for golden, path in (
        ("server_secret", "work/server/secret.json"),
        ("device_trust", "work/device-trust/secret.json"),
        (name, "work/envoy.json"),
    ):
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        text = (GOLDENS / f"{golden}.json").read_text()
        file.write_text(text.replace(f"{DIRECTORY}/", f"{directory}/"))
    (directory / "server.key").write_bytes(SERVER.key_pem)
    (directory / "mender-ca.pem").write_bytes(CA.pem)
    (directory / SYSTEM_TRUST.name).write_bytes(CertificateAuthority("A public CA").pem)
    return directory / "work" / "envoy.json"


async def validated(bootstrap: Path) -> tuple[int | None, str]:
    """Exit status of `envoy --mode validate`, and what it says."""
    envoy = await asyncio.create_subprocess_exec(
        find_envoy(None).path,
        *("--mode", "validate", "--config-path", str(bootstrap)),
        *("--disable-hot-restart", "--reject-unknown-dynamic-fields", "--log-level", "warning"),
        env={},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await envoy.communicate()
    return envoy.returncode, said.decode(errors="replace")


@pytest.mark.parametrize("variant", VARIANTS)
async def test_envoy_accepts_it_without_a_warning(tmp_path: Path, variant: str) -> None:
    status, said = await validated(put_in_place(variant, tmp_path))
    assert status == 0, said
    assert "deprecated" not in said
    assert "[warning]" not in said
    assert f"configuration '{tmp_path}/work/envoy.json' OK" in said


async def test_validation_would_find_a_fault(tmp_path: Path) -> None:
    bootstrap = put_in_place("insecure", tmp_path)
    text = bootstrap.read_text()
    assert '"require_client_certificate"' in text
    bootstrap.write_text(text.replace('"require_client_certificate"', '"require_client_certificates"'))
    status, said = await validated(bootstrap)
    assert status != 0
    assert "require_client_certificates" in said


async def test_the_servers_certificate_may_have_many_names(tmp_path: Path) -> None:
    """Envoy refuses long regular expressions unless it is told otherwise."""
    names = ["my-server.com", "*.example.com", *(f"mender-edge-{n}.oslo.devices.example.com" for n in range(100))]
    ca = CertificateAuthority("My CA")
    server = ca.server("my-server.com", san=[*(f"DNS:{name}" for name in names), "IP:127.0.0.1", "IP:2001:db8::1"])
    async with world(tmp_path, ca=ca, server=server) as w, w.device() as device:
        await device.authenticate()

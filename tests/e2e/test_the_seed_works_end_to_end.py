"""Certificates by the document's openssl commands, its mender.conf, the real client: accepted, with inventory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import seed_pki
from tests.e2e.mender_peer import seed_client
from tests.edge_process import EdgeProcess
from tests.world import PASSWORD, USER, edge_environment, eventually

_UPDATE_CHECK = ("POST", "/api/devices/v1/deployments/device/deployments/next")


@pytest.mark.needs("mender", "openssl", "unshare")
async def test_the_seed_works_end_to_end(tmp_path: Path) -> None:
    pki = seed_pki(tmp_path / "pki")
    files = {
        "server_cert": pki.server_certificate,
        "server_key": pki.server_key,
        "tenant_ca_pem": pki.ca_certificate,
    }
    identity = {"mac": "52:54:00:12:34:56"}
    async with (
        LabServer(LabSettings(user=USER, password=PASSWORD)) as lab,
        EdgeProcess(edge_environment(tmp_path, lab.url, files, debug_log="true"), directory=tmp_path) as edge,
    ):
        client = seed_client(
            tmp_path / "client",
            port=edge.port,
            trust=[pki.ca_certificate],
            certificate=pki.device_certificate.read_bytes(),
            key=pki.device_key.read_bytes(),
            identity=identity,
        )
        async with client:
            await eventually(lambda: any(device.inventory for device in lab.devices()), 30)
            await eventually(lambda: _UPDATE_CHECK in [(call.method, call.path) for call in lab.calls()], 30)
        (device,) = lab.devices()
        assert device.status == "accepted"
        assert device.identity == identity
        assert device.inventory["hostname"] == "debian"
        assert str(device.inventory["mender_client_version"]).startswith("3.")
        assert "admitted 127.0.0.1" in edge.log_text()
        assert await edge.stop() == 0

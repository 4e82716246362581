"""The lab's Mender Server is Mender to the real peers, without an edge: mender-cli uploads, the client installs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import CertificateAuthority
from tests.e2e.mender_operator import Operator, installed
from tests.e2e.mender_peer import seed_client
from tests.world import PASSWORD, USER, eventually

pytestmark = pytest.mark.needs("mender", "mender-artifact", "mender-cli", "unshare")

_NEXT = "/device/deployments/next"


@pytest.mark.parametrize("v2_next", [False, True])
async def test_deployment(tmp_path: Path, v2_next: bool) -> None:
    ca = CertificateAuthority("My CA")
    holder = ca.device("device")
    trust = tmp_path / "ca.pem"
    trust.write_bytes(ca.pem)
    tls = ca.server("my-server.com", san=["DNS:my-server.com", "DNS:localhost"]).write(tmp_path, "server")
    payload = tmp_path / "hello.txt"
    payload.write_bytes(b"hello, world\n" * 1000)
    async with LabServer(LabSettings(user=USER, password=PASSWORD, v2_next=v2_next), tls=tls) as lab:
        operator = Operator(tmp_path, f"https://localhost:{lab.port}", trust)
        await operator.log_in()
        artifact = await operator.write_artifact("release-2", payload)
        await operator.upload(artifact)
        (uploaded,) = lab.artifacts()
        assert (uploaded.name, uploaded.device_types, uploaded.description) == ("release-2", ("lab",), "a test")
        assert uploaded.size == artifact.stat().st_size
        assert "Name: hello.txt" in await operator.artifacts("list", "--detail", "3")

        client = seed_client(
            tmp_path / "client",
            port=lab.port,
            trust=[trust],
            certificate=holder.pem,
            key=holder.key_pem,
            identity={"mac": "52:54:00:00:00:01"},
        )
        async with client:
            await eventually(lab.devices, 30)
            (device,) = lab.devices()
            lab.set_status(device.id, device.auth_sets[0].id, "accepted")
            lab.create_deployment("first", "release-2", [device.id])
            await eventually(lambda: lab.deployments()[0].status == "finished", 60)
            assert lab.deployments()[0].devices == {device.id: "success"}, client.log_text()
            assert installed(client.state, "hello.txt").read_bytes() == payload.read_bytes()
            await eventually(lambda: lab.devices()[0].inventory["artifact_name"] == "release-2", 30)

            # What is installed already is not installed again, and what fails is told with its log.
            lab.create_deployment("second", "release-2", [device.id])
            await eventually(lambda: lab.deployments()[1].devices == {device.id: "already-installed"}, 30)
            (tmp_path / "broken").mkdir()
            broken = Operator(tmp_path / "broken", operator.url, trust)
            await broken.log_in()
            await broken.upload(await broken.write_artifact("release-3", payload, module="no-such-module"))
            lab.create_deployment("third", "release-3", [device.id])
            await eventually(lambda: lab.deployments()[2].logs, 60)
            assert lab.deployments()[2].devices == {device.id: "failure"}
            assert "no-such-module" in lab.deployments()[2].logs[device.id]

    asked = {(call.path, call.status) for call in lab.calls() if call.path.endswith(_NEXT)}
    v1, v2 = f"/api/devices/v1/deployments{_NEXT}", f"/api/devices/v2/deployments{_NEXT}"
    assert asked == ({(v2, 200), (v2, 204)} if v2_next else {(v2, 404), (v1, 200), (v1, 204)})

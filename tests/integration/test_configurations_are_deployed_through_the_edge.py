"""A configuration's download link names the edge as the device does, and what it leads to comes through whole."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from mtls_ambassador.lab.device import AUTH_REQUESTS, CONFIGURATION
from mtls_ambassador.lab.installation import Artifacts, install, read_configuration
from tests.world import world

VALUES = {"timezone": "Europe/Oslo", "ssid": "lab"}
DOWNLOADS = "/api/devices/v1/deployments/download/configuration"


async def test_configurations_are_deployed_through_the_edge(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        identity = {"mac": "52:54:00:00:00:01"}
        async with w.device(identity=identity) as device:
            await device.authenticate()
            device_id = w.mender_device(identity).id
            deployment_id = await w.lab.deploy_configuration(device_id, VALUES)
            told = await device.check_update()
            assert told is not None
            link = urlsplit(told["artifact"]["source"]["uri"])
            assert (link.scheme, link.netloc) == ("https", f"my-server.com:{w.edge.port}")
            assert link.path == f"{DOWNLOADS}/{deployment_id}/simulated/{device_id}"

            await install(device, told, Artifacts())
            assert w.lab.configuration(device_id).reported == VALUES
            (deployment,) = w.lab.deployments()
            assert (deployment.status, deployment.devices) == ("finished", {device_id: "success"})
            calls = [(call.method, call.path.partition("?")[0], call.status) for call in w.lab.calls()]
            downloaded = calls.index(("GET", link.path, 200))
            assert downloaded < calls.index(("POST", AUTH_REQUESTS, 200), downloaded) < len(calls) - 1
            assert calls[-1] == ("PUT", CONFIGURATION, 204)

        # Any device of ours may download it, without a token; nobody else, nor with another link.
        context, target = w.client_context(w.ca.device("other")), f"{link.path}?{link.query}"
        status, rest = await w.request(context, "GET", target)
        head, _, body = rest.partition(b"\r\n\r\n")
        assert status == 200
        assert f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"
        assert b"transfer-encoding" not in head.lower()
        assert read_configuration(body) == VALUES
        assert (await w.request(context, "GET", target.replace("simulated", "other")))[0] == 403
        assert (await w.request(context, "GET", link.path))[0] == 400

        # Mender answers a range of a configuration with the whole of it; the edge passes on what was asked for.
        status, rest = await w.request(context, "GET", target, "Range: bytes=5-\r\n")
        assert (status, rest.partition(b"\r\n\r\n")[2]) == (200, body)
        assert w.relay.headers_of(target)[-1]["range"] == ["bytes=5-"]
        assert "authorization" not in w.relay.headers_of(target)[-1]


async def test_the_link_has_no_name_but_those_of_our_certificate(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        identity = {"mac": "52:54:00:00:00:01"}
        async with w.device(identity=identity) as device:
            token = await device.authenticate()
        await w.lab.deploy_configuration(w.mender_device(identity).id, VALUES)
        context = w.client_context(w.ca.device("device"))
        target = "/api/devices/v1/deployments/device/deployments/next?artifact_name=release-1&device_type=simulated"
        spoofed = "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: http\r\n"
        status, rest = await w.request(context, "GET", target, f"Authorization: Bearer {token}\r\n{spoofed}")
        assert status == 200
        assert b'"uri":"https://my-server.com/api/devices/v1/deployments/download/configuration/' in rest

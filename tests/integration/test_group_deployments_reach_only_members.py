"""A deployment to a group is told to its members alone; they download it through the edge, in ranges if they like."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from mtls_ambassador.lab.installation import Artifacts, install
from tests.unit.lab.server.artifact import artifact
from tests.unit.lab.server.peer import Peer
from tests.world import world


async def test_group_deployments_reach_only_members(tmp_path: Path) -> None:
    content = artifact(types=("simulated",), files={"payload.bin": b"x" * 100_000}, compression="")
    async with world(tmp_path) as w, AsyncExitStack() as stack:
        identities = [{"mac": f"52:54:00:00:00:{number:02x}"} for number in range(3)]
        devices = [await stack.enter_async_context(w.device(identity=identity)) for identity in identities]
        for device in devices:
            await device.authenticate()
        ids = [w.mender_device(identity).id for identity in identities]
        for device_id in ids[:2]:
            w.lab.put_into_group(device_id, "lab")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        assert (await Peer(w.lab, http, w.lab.create_token("upload")).upload(content)).status == 201
        w.lab.create_deployment("first", "release-2", group="lab")

        told = [await device.check_update() for device in devices]
        assert [item is not None for item in told] == [True, True, False]
        downloads = Artifacts()
        for device, instructions in zip(devices, told, strict=True):
            if instructions is not None:
                await install(device, instructions, downloads)
        assert downloads.counts == {"release-2": 2}
        (deployment,) = w.lab.deployments()
        assert (deployment.status, deployment.devices) == ("finished", dict.fromkeys(ids[:2], "success"))
        assert [await device.check_update() for device in devices] == [None, None, None]

        assert told[0] is not None
        link = urlsplit(told[0]["artifact"]["source"]["uri"])
        assert link.netloc == f"my-server.com:{w.edge.port}"
        context = w.client_context(w.ca.device("other"))
        status, rest = await w.request(context, "GET", f"{link.path}?{link.query}", "Range: bytes=1000-\r\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        assert (status, body) == (206, content[1000:])
        lines = head.lower().split(b"\r\n")
        assert f"content-range: bytes 1000-{len(content) - 1}/{len(content)}".encode() in lines
        assert f"content-length: {len(content) - 1000}".encode() in lines

"""The real mender-connect through the real edge: terminal, files both ways, and back by itself after a restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from mtls_ambassador.lab.mender_client import MenderClient
from mtls_ambassador.lab.remote_session import RemoteSession, WebSocketLink
from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import CertificateAuthority
from tests.connected_device import CONNECT
from tests.e2e.mender_peer import seed_client
from tests.e2e.remote_terminal import CONNECT_CONF, files_pass, shell_answers, until_there
from tests.edge_process import EdgeProcess
from tests.ports import lasting_port
from tests.world import PASSWORD, USER, edge_environment, eventually, write_settings_files

pytestmark = [
    # mender-connect calls setgroups for a shell, which a user's namespace forbids.
    pytest.mark.needs("root", "mender", "mender-connect", "dbus-daemon", "unshare"),
]

_IDENTITY = {"mac": "52:54:00:12:34:56"}


@dataclass
class Scene:
    lab: LabServer
    environment: dict[str, str]
    edge: EdgeProcess
    client: MenderClient

    @property
    def device_id(self) -> str:
        (device,) = self.lab.devices()
        return device.id

    def session(self) -> AbstractAsyncContextManager[RemoteSession]:
        """A new session with the device."""
        return self.lab.session(self.device_id)

    def upgrades(self) -> int:
        """How many WebSockets the device has opened so far."""
        return sum((call.path, call.status) == (CONNECT, 101) for call in self.lab.calls())


@asynccontextmanager
async def _scene(directory: Path, **settings: object) -> AsyncIterator[Scene]:
    """A device that is admitted and connected."""
    ca = CertificateAuthority("My CA")
    server = ca.server("my-server.com", san=["DNS:my-server.com"])
    device = ca.device("device")
    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as lab:
        environment = edge_environment(
            directory,
            lab.url,
            write_settings_files(directory, ca, server),
            listen=f"127.0.0.1:{lasting_port()}",
            shutdown_grace="1s",
            **settings,
        )
        async with EdgeProcess(environment, directory=directory) as edge:
            client = seed_client(
                directory / "client",
                port=edge.port,
                trust=[directory / "ca.pem"],
                certificate=device.pem,
                key=device.key_pem,
                identity=_IDENTITY,
                connect=CONNECT_CONF,
            )
            async with client:
                try:
                    await eventually(lambda: any(lab.connected(device.id) for device in lab.devices()), 40)
                except AssertionError as error:
                    raise AssertionError(f"{client.log_text()}\n{client.connect_log_text()}") from error
                yield Scene(lab, environment, edge, client)


async def test_terminal_and_files(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene:
        await shell_answers(scene.session)
        await files_pass(scene.session)
        assert scene.upgrades() == 1


async def test_as_a_user_of_the_management_api(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(300_000)
    async with _scene(tmp_path) as scene, aiohttp.ClientSession(scene.lab.url) as http:
        login = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
        async with http.post("/api/management/v1/useradm/auth/login", headers=login) as found:
            http.headers["Authorization"] = f"Bearer {await found.text()}"
        place = f"/api/management/v1/deviceconnect/devices/{scene.device_id}"
        async with http.get(place) as found:
            assert (await found.json())["status"] == "connected"

        @asynccontextmanager
        async def user_session() -> AsyncIterator[RemoteSession]:
            async with http.ws_connect(f"{place}/connect") as socket:
                yield RemoteSession(WebSocketLink(socket))

        await shell_answers(user_session)
        form = aiohttp.FormData()
        form.add_field("path", "/tmp/there.bin")
        form.add_field("file", content, filename="here.bin")
        async with http.put(f"{place}/upload", data=form) as found:
            assert found.status == 201
        async with scene.session() as session:
            await session.open()
            await until_there(session, "/tmp/there.bin")
        async with http.get(f"{place}/download", params={"path": "/tmp/there.bin"}) as found:
            assert found.status == 200
            assert await found.read() == content
        async with http.get(f"{place}/download", params={"path": "/tmp/nowhere"}) as found:
            assert found.status == 400
            assert "no such file" in (await found.json())["error"]
        async with http.post(f"{place}/send-inventory") as found:
            assert found.status == 202


async def test_it_comes_back_when_the_edge_was_away(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene:
        assert await scene.edge.stop() == 0
        await eventually(lambda: not scene.lab.connected(scene.device_id))
        async with EdgeProcess(scene.environment, directory=tmp_path):
            await eventually(lambda: scene.lab.connected(scene.device_id), 60)
            await shell_answers(scene.session)


async def test_with_bound_tokens_and_when_they_are_turned_off(tmp_path: Path) -> None:
    """The client gets its 401 at its next poll, authenticates anew, and hands mender-connect the new token."""
    async with _scene(tmp_path, bind_tokens="true") as scene:
        await shell_answers(scene.session)
        assert not any("token_refused" in line for line in scene.edge.lines)
        assert await scene.edge.stop() == 0
        await eventually(lambda: not scene.lab.connected(scene.device_id))
        again = {**scene.environment, "MTLS_BIND_TOKENS": "false"}
        async with EdgeProcess(again, directory=tmp_path):
            await eventually(lambda: scene.lab.connected(scene.device_id), 90)
            await shell_answers(scene.session)


async def test_when_bound_tokens_are_turned_on(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene:
        assert await scene.edge.stop() == 0
        await eventually(lambda: not scene.lab.connected(scene.device_id))
        again = {**scene.environment, "MTLS_BIND_TOKENS": "true"}
        async with EdgeProcess(again, directory=tmp_path):
            await eventually(lambda: scene.lab.connected(scene.device_id), 90)
            await shell_answers(scene.session)


@pytest.mark.slow
async def test_it_stays_while_nobody_says_anything(tmp_path: Path) -> None:
    """Longer than the minute after which either end gives up a silent connection: their pings pass."""
    async with _scene(tmp_path) as scene:
        await asyncio.sleep(70)
        await shell_answers(scene.session)
        assert scene.upgrades() == 1

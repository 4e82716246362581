"""What a simulated device sends is what the real Go client sends, and what Mender verifies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, unused_port
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mtls_ambassador.lab.auth_request import PrivateKey
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY, NEXT_V1, NEXT_V2, SimulatedDevice
from mtls_ambassador.lab.transport import RefusedError, UnreachableError

MAC = {"mac": "52:54:00:12:34:56"}
P256 = ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, key: PrivateKey) -> Path:
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


class Server:
    """A device API that says what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.bodies: dict[str, object] = {}
        self.answers: dict[str, list[web.Response]] = {}
        self.host = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers["Authorization"].removeprefix("Bearer").strip()
        self.seen.append((f"{request.method} {request.path}", token))
        self.bodies[request.path] = await request.json()
        self.host = request.headers["Host"]
        return self.answers[request.path].pop(0)


@pytest.fixture
def api() -> Server:
    return Server()


Start = Callable[..., Awaitable[SimulatedDevice]]


@pytest.fixture
async def start(api: Server, tmp_path: Path) -> AsyncIterator[Start]:
    key = write_key(tmp_path / "device.pem", P256)
    async with RawTestServer(api) as server:
        opened: list[SimulatedDevice] = []

        async def begin(url: str = str(server.make_url("")), **options: object) -> SimulatedDevice:
            device = SimulatedDevice(url, None, None, key, MAC, **options)  # type: ignore[arg-type]
            opened.append(await device.__aenter__())
            return device

        yield begin
        for device in opened:
            await device.__aexit__(None, None, None)


class TestSimulatedDevice:
    async def test_authenticates_and_uses_the_token(self, api: Server, start: Start) -> None:
        api.answers = {
            AUTH_REQUESTS: [web.Response(text="t1")],
            INVENTORY: [web.Response()],
            NEXT_V2: [web.Response(status=404)],
            NEXT_V1: [web.Response(status=204)],
        }
        device = await start(tenant_token="TT", device_type="qemu")
        assert await device.authenticate() == "t1"
        await device.send_inventory({"ip": ["10.0.0.1", "10.0.0.2"]})
        assert await device.check_update() is None
        assert api.seen == [
            (f"POST {AUTH_REQUESTS}", "TT"),
            (f"PUT {INVENTORY}", "t1"),
            (f"POST {NEXT_V2}", "t1"),
            (f"POST {NEXT_V1}", "t1"),
        ]
        assert api.bodies[INVENTORY] == [
            {"name": "artifact_name", "value": "release-1"},
            {"name": "device_type", "value": "qemu"},
            {"name": "ip", "value": ["10.0.0.1", "10.0.0.2"]},
        ]
        assert api.bodies[NEXT_V1] == {"artifact_name": "release-1", "device_type": "qemu"}

    async def test_authenticates_again_once_on_401(self, api: Server, start: Start) -> None:
        api.answers = {
            AUTH_REQUESTS: [web.Response(text="t1"), web.Response(text="t2")],
            INVENTORY: [web.Response(status=401), web.Response(status=401)],
        }
        device = await start()
        await device.authenticate()
        with pytest.raises(RefusedError) as caught:
            await device.send_inventory()
        assert caught.value.status == 401
        assert [token for _, token in api.seen] == ["", "t1", "", "t2"]

    async def test_says_what_the_server_said(self, api: Server, start: Start) -> None:
        denied = {"error": "dev auth: unauthorized", "request_id": "r"}
        api.answers = {AUTH_REQUESTS: [web.json_response(denied, status=401), web.Response(text="")]}
        device = await start(tenant_token="TT")
        with pytest.raises(RefusedError, match="refused: 401 dev auth: unauthorized") as caught:
            await device.authenticate()
        assert (caught.value.status, caught.value.text) == (401, "dev auth: unauthorized")
        with pytest.raises(RefusedError, match="200 no token"):
            await device.authenticate()

    async def test_returns_the_deployment(self, api: Server, start: Start) -> None:
        api.answers = {
            AUTH_REQUESTS: [web.Response(text="t1")],
            NEXT_V2: [web.json_response({"id": "d"}), web.Response(text="<html>")],
        }
        device = await start()
        assert await device.check_update() == {"id": "d"}
        with pytest.raises(RefusedError, match="200 <html>"):
            await device.check_update()

    async def test_connects_to_an_address_and_keeps_the_name(self, api: Server, start: Start) -> None:
        api.answers = {AUTH_REQUESTS: [web.Response(text="t1")]}
        async with RawTestServer(api) as server:
            device = await start(f"http://edge.invalid:{server.port}/", address="127.0.0.1")
            await device.authenticate()
            assert api.host == f"edge.invalid:{server.port}"

    async def test_is_unreachable_when_nobody_listens(self, start: Start) -> None:
        device = await start(f"http://127.0.0.1:{unused_port()}")
        with pytest.raises(UnreachableError, match="got no answer"):
            await device.authenticate()

    def test_shows_no_secret(self, tmp_path: Path) -> None:
        device = SimulatedDevice("https://edge", None, None, tmp_path / "k", MAC, tenant_token="TT")
        assert "TT" not in repr(device)

"""Connections and requests have the form that each real client gives them, and each is timed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, unused_port

from mtls_ambassador.lab.credentials import Credentials
from mtls_ambassador.lab.device import CONNECT, INVENTORY, NEXT_V1
from mtls_ambassador.lab.transport import RefusedError, Style, UnreachableError
from tests.unit.lab.device_api import DeviceApi, credentials, device_of
from tests.world import eventually


class Peer(DeviceApi):
    """Remembers also by which connection each request came."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[int] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        self.ports.append(request.transport.get_extra_info("peername")[1])
        return await super().__call__(request)


@pytest.fixture
def api() -> Peer:
    return Peer()


@pytest.fixture
async def url(api: Peer) -> AsyncIterator[str]:
    async with RawTestServer(api) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture(scope="module")
def found() -> Credentials:
    return credentials()


async def test_the_go_client_keeps_its_connection_and_sends_chunks(api: Peer, url: str, found: Credentials) -> None:
    async with device_of(url, found) as device:
        await device.authenticate()
        await device.send_inventory()
        await device.check_update()
    assert len(set(api.ports)) == 1
    framing = [("Content-Length" in headers, headers.get("Transfer-Encoding")) for headers in api.headers]
    assert framing == [(True, None), (False, "chunked"), (False, "chunked"), (False, "chunked")]
    assert {headers["User-Agent"] for headers in api.headers} == {"Go-http-client/1.1"}
    assert api.bodies[2]["update_control_map"] is True


async def test_the_cpp_client_connects_for_each_request(api: Peer, url: str, found: Credentials) -> None:
    async with device_of(url, found, style=Style.CPP) as device:
        await device.authenticate()
        await device.send_inventory()
        await device.check_update()
    assert len(set(api.ports)) == 4
    assert [("Content-Length" in headers, "Transfer-Encoding" in headers) for headers in api.headers[:3]] == [
        (True, False)
    ] * 3
    assert api.seen[3] == f"GET {NEXT_V1}"
    assert api.bodies[3] is None
    assert "User-Agent" not in api.headers[0]
    assert "update_control_map" not in api.bodies[2]


async def test_tells_of_every_call_and_connection(api: Peer, url: str, found: Credentials) -> None:
    told: list[tuple[str, int | None]] = []

    def observe(kind: str, seconds: float, status: int | None) -> None:
        assert seconds >= 0
        told.append((kind, status))

    api.once(f"PUT {INVENTORY}", 500)
    async with device_of(url, found, style=Style.CPP, observe=observe) as device:
        await device.authenticate()
        with pytest.raises(RefusedError):
            await device.send_inventory()
    assert told == [("connection", 0), ("authentication", 200), ("connection", 0), ("inventory", 500)]


async def test_tells_of_calls_without_answer(found: Credentials) -> None:
    told: list[tuple[str, int | None]] = []
    url = f"http://127.0.0.1:{unused_port()}"
    async with device_of(url, found, observe=lambda kind, _seconds, status: told.append((kind, status))) as device:
        with pytest.raises(UnreachableError):
            await device.authenticate()
    assert told == [("authentication", None)]


class TestDownload:
    async def test_has_a_connection_of_its_own_and_no_token(self, api: Peer, url: str, found: Credentials) -> None:
        async with device_of(url, found) as device:
            await device.authenticate()
            await device.download(f"{url}/artifact?x=%2F")
            await device.send_inventory()
        assert api.ports[0] == api.ports[2] != api.ports[1]
        assert "Authorization" not in api.headers[1]

    async def test_says_what_was_refused(self, url: str, found: Credentials) -> None:
        async with device_of(url, found) as device:
            with pytest.raises(RefusedError, match="the download was refused: 404"):
                await device.download(f"{url}/absent")

    async def test_half_an_artifact_is_none(self, api: Peer, url: str, found: Credentials) -> None:
        told: list[int | None] = []

        async def half(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "10000"})
            await response.prepare(request)
            await response.write(b"x" * 5000)
            assert request.transport is not None
            request.transport.close()
            return response

        api.special["GET /artifact"].append(half)
        async with device_of(url, found, observe=lambda _kind, _seconds, status: told.append(status)) as device:
            with pytest.raises(UnreachableError):
                await device.download(f"{url}/artifact")
        assert told[-1] is None


class TestSocket:
    async def test_shows_the_token_and_answers_pings(self, api: Peer, url: str, found: Credentials) -> None:
        async with device_of(url, found) as device:
            await device.authenticate()
            async with device.connect() as socket:
                reading = asyncio.create_task(socket.receive())
                await eventually(lambda: api.sockets)
                await api.sockets[0].ping(b"there?")
                await api.sockets[0].close(code=1001)
                await reading
                assert socket.close_code == 1001
        assert api.seen[-1] == f"GET {CONNECT}"
        assert api.headers[-1]["Authorization"] == "Bearer token-1"

    async def test_says_what_was_refused(self, api: Peer, url: str, found: Credentials) -> None:
        api.once(f"GET {CONNECT}", 404)
        async with device_of(url, found) as device:
            with pytest.raises(RefusedError, match="the WebSocket was refused: 404"):
                async with device.connect():
                    raise AssertionError

    async def test_nobody_listens(self, found: Credentials) -> None:
        async with device_of(f"http://127.0.0.1:{unused_port()}", found) as device:
            with pytest.raises(UnreachableError):
                async with device.connect():
                    raise AssertionError

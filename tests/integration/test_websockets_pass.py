"""mender-connect's WebSocket through the real Envoy: opened, carried, closed and cut as its two ends want it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from mtls_ambassador.edge import listeners, routes
from mtls_ambassador.edge.machine import raise_file_limit
from tests.attempts import attempt, request
from tests.certificates import CertificateAuthority
from tests.connected_device import CONNECT, connected_device
from tests.edge_process import EdgeProcess
from tests.memory import resident
from tests.raw_device import another_edge
from tests.world import World, edge_environment, eventually, world, write_settings_files

pytestmark = pytest.mark.asyncio(loop_scope="module")

SILENT = "/api/devices/v1/inventory/silent"
"""What the echoing server never answers."""

ABNORMAL = (1006).to_bytes(2)
"""A close code that must not be on the wire (RFC 6455 section 7.4.1), where mender-connect puts it nonetheless."""


@dataclass
class Echo:
    """A server whose one WebSocket says again what it hears, and obeys a few words."""

    port: int = 0
    heads: list[dict[str, str]] = field(default_factory=list)
    """The headers of each upgrade, lower-case names."""
    ends: list[int | None] = field(default_factory=list)
    """How each WebSocket ended, in order: the close code that the client sent, None without one."""
    open: int = 0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        self.heads.append({name.lower(): value for name, value in request.headers.items()})
        socket = web.WebSocketResponse(timeout=0.5, max_msg_size=0, autoclose=False, compress=False)
        await socket.prepare(request)
        self.open += 1
        code: int | None = None
        try:
            while (message := await socket.receive()).type in {web.WSMsgType.BINARY, web.WSMsgType.TEXT}:
                match message.data:
                    case "close":
                        await socket.close(code=4002, message=b"enough")
                        break
                    case "abort":
                        assert request.transport is not None
                        request.transport.abort()
                        break
                    case "1006":
                        assert socket._writer is not None
                        await socket._writer.send_frame(ABNORMAL, aiohttp.WSMsgType.CLOSE)
                    case _:
                        await socket.send_bytes(message.data)
            if message.type is web.WSMsgType.CLOSE:
                code = message.data
        finally:
            self.open -= 1
            self.ends.append(code)
        return socket


async def _never(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


@contextlib.asynccontextmanager
async def _echo() -> AsyncIterator[Echo]:
    echo = Echo()
    app = web.Application()
    app.router.add_get(CONNECT, echo.serve)
    app.router.add_get(SILENT, _never)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2000)
        await site.start()
        echo.port = runner.addresses[0][1]
        yield echo
    finally:
        await runner.cleanup()


@dataclass
class Scene:
    """An edge before a lab server, and another one, `w`'s, before an echoing one."""

    mender: World
    w: World
    echo: Echo
    http: aiohttp.ClientSession
    context: ssl.SSLContext

    @contextlib.asynccontextmanager
    async def socket(self, **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A device's WebSocket to the echoing server."""
        async with _socket(self.http, self.w.edge.port, self.context, **headers) as socket:
            yield socket


@contextlib.asynccontextmanager
async def _socket(
    http: aiohttp.ClientSession, port: int, context: ssl.SSLContext, **headers: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with http.ws_connect(
        f"https://127.0.0.1:{port}{CONNECT}",
        ssl=context,
        server_hostname="my-server.com",
        headers={"Host": f"my-server.com:{port}", **headers},
        max_msg_size=0,
    ) as socket:
        yield socket


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    raise_file_limit()  # both ends of a thousand connections are in this process
    async with (
        world(tmp_path_factory.mktemp("world")) as mender,
        _echo() as echo,
        another_edge(mender, mender_backend=f"http://127.0.0.1:{echo.port}") as w,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        yield Scene(mender, w, echo, http, mender.client_context(mender.ca.device("device")))


async def test_upgrade(scene: Scene) -> None:
    async with scene.socket(Authorization="Bearer a.b.c") as socket:
        await socket.send_bytes(b"hello")
        assert await socket.receive_bytes() == b"hello"
    head = scene.echo.heads[-1]
    assert head["authorization"] == "Bearer a.b.c"
    assert head["host"] == f"127.0.0.1:{scene.echo.port}"
    assert head["x-forwarded-host"] == f"my-server.com:{scene.w.edge.port}"
    assert head["upgrade"].lower() == "websocket"
    assert "sec-websocket-protocol" not in head


async def test_two_megabytes_in_one_frame_both_ways(scene: Scene) -> None:
    content = random.Random(1).randbytes(2_000_000)
    async with scene.socket() as socket:
        await socket.send_bytes(content)
        assert await socket.receive_bytes() == content


async def test_close_codes_pass(scene: Scene) -> None:
    async with scene.socket() as socket:
        await socket.close(code=4001)
    await eventually(lambda: 4001 in scene.echo.ends)
    async with scene.socket() as socket:
        await socket.send_str("close")
        end = await socket.receive()
        assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 4002, "enough")


async def test_close_code_1006_passes(scene: Scene) -> None:
    async with scene.socket() as socket:
        await socket._writer.send_frame(ABNORMAL, aiohttp.WSMsgType.CLOSE)
        await eventually(lambda: 1006 in scene.echo.ends)
    async with scene.socket() as socket:
        await socket.send_str("1006")
        end = await socket.receive()
        assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1006)


async def test_abrupt_ends_pass(scene: Scene) -> None:
    await eventually(lambda: scene.echo.open == 0)
    before = len(scene.echo.ends)
    async with scene.socket() as socket:
        transport = socket._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        await eventually(lambda: scene.echo.ends[before:] == [None])
    async with scene.socket() as socket:
        await socket.send_str("abort")
        async with asyncio.timeout(5):
            end = await socket.receive()
        assert end.type is aiohttp.WSMsgType.CLOSED
    async with scene.socket() as socket:  # and the edge lives
        await socket.send_bytes(b"x")
        assert await socket.receive_bytes() == b"x"


async def test_one_stays_when_another_ends(scene: Scene) -> None:
    async with scene.socket() as one:
        for word in ("close", "abort"):
            async with scene.socket() as other:
                await other.send_str(word)
                await other.receive()
        await one.send_bytes(b"still here")
        assert await one.receive_bytes() == b"still here"


async def test_the_connection_shows_in_mender(scene: Scene) -> None:
    async with scene.mender.device() as device:
        token = await device.authenticate()
        url = f"https://127.0.0.1:{scene.mender.edge.port}"
        device_id = scene.mender.mender_device(device.identity).id
        async with connected_device(url, token, tls=scene.context, server_hostname="my-server.com"):
            await eventually(lambda: scene.mender.lab.connected(device_id))
            async with scene.mender.lab.session(device_id) as session:
                await session.open()
                await session.start_shell()
                await session.type(b"hello")
                assert await session.output_until(b"hello") == b"hello"
        await eventually(lambda: not scene.mender.lab.connected(device_id))


UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@pytest.mark.parametrize("token", [[], [("Authorization", "Bearer a.b.c")]], ids=["none", "not good"])
async def test_without_a_good_token_menders_401_passes(scene: Scene, token: list[tuple[str, str]]) -> None:
    tried = await attempt(scene.mender.edge.port, request("GET", CONNECT, [*UPGRADE, *token]), scene.context)
    assert tried.answer.status == 401
    assert tried.answer.json().keys() == {"error", "request_id"}
    assert (CONNECT, 401) in {(call.path, call.status) for call in scene.mender.lab.calls()}


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/api/devices/v1/inventory/device/attributes", "websocket"),
        ("/api/devices/v1/deviceconnect/other", "websocket"),
        (f"{CONNECT}/", "websocket"),
        ("/api/devices/v1/authentication/auth_requests", "websocket"),
        ("/api/management/v1/deviceconnect/devices/x/connect", "websocket"),
        ("/status", "websocket"),
        (CONNECT, "other"),
        (CONNECT, "websocket, other"),
    ],
)
async def test_other_upgrades_are_refused(scene: Scene, path: str, protocol: str) -> None:
    before = len(scene.mender.relay.device_requests())
    headers = [(name, protocol if name == "Upgrade" else value) for name, value in UPGRADE]
    tried = await attempt(scene.mender.edge.port, request("GET", path, headers), scene.context)
    assert tried.answer.status == 403
    assert tried.answer.json()["error"] == "forbidden"
    assert len(scene.mender.relay.device_requests()) == before


async def test_http_2_is_not_begun_by_an_upgrade(scene: Scene) -> None:
    """RFC 9113 has done away with it; the request is served as if nothing was offered."""
    seen = len(scene.mender.relay.seen)
    headers = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
    tried = await attempt(scene.mender.edge.port, request("GET", CONNECT, headers), scene.context)
    assert tried.answer.status == 401
    passed_on = bytes(scene.mender.relay.seen[seen:]).lower()
    assert passed_on.startswith(f"get {CONNECT} http/1.1".encode())
    assert b"h2c" not in passed_on
    assert b"http2-settings" not in passed_on


async def test_a_thousand_are_held_while_idle(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the edge has patience with any other request; and their memory is there for others afterwards."""
    monkeypatch.setattr(listeners, "STREAM_IDLE", 2.0)
    monkeypatch.setattr(routes, "PASSING_IDLE", 2.0)
    await eventually(lambda: scene.echo.open == 0)
    async with another_edge(scene.mender, mender_backend=f"http://127.0.0.1:{scene.echo.port}") as w:
        pid = w.edge.envoy_pid
        assert pid is not None
        before = resident(pid)
        first = await _hold_a_thousand(scene, w) - before
        assert first < 1000 * 120_000
        # Envoy's allocator gives the kernel little of it back, so look whether it is used again.
        second = await _hold_a_thousand(scene, w) - before
        assert second < first * 1.25


async def _hold_a_thousand(scene: Scene, w: World) -> int:
    """Open them, let the edge lose its patience with another request meanwhile, use them; Envoy's memory then."""
    assert w.edge.envoy_pid is not None
    few = asyncio.Semaphore(50)  # handshakes at once
    async with contextlib.AsyncExitStack() as stack:

        async def connect() -> aiohttp.ClientWebSocketResponse:
            async with few:
                return await stack.enter_async_context(_socket(scene.http, w.edge.port, scene.context))

        sockets = await asyncio.gather(*(connect() for _ in range(1000)))
        assert scene.echo.open == len(sockets)
        status, _ = await w.request(scene.context, "GET", SILENT)
        assert status == 504
        assert scene.echo.open == len(sockets)
        memory = resident(w.edge.envoy_pid)
        for socket in sockets:
            await socket.send_bytes(b"ping")
        assert [await socket.receive_bytes() for socket in sockets] == [b"ping"] * len(sockets)
    await eventually(lambda: scene.echo.open == 0, 30)
    return memory


async def test_the_routes_patience_counts_not_the_listeners(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "STREAM_IDLE", 1.0)
    monkeypatch.setattr(routes, "SOCKET_IDLE", 3.0)
    async with (
        another_edge(scene.mender, mender_backend=f"http://127.0.0.1:{scene.echo.port}") as w,
        _socket(scene.http, w.edge.port, scene.context) as socket,
    ):
        await socket.send_bytes(b"x")
        assert await socket.receive_bytes() == b"x"
        began = time.monotonic()
        async with asyncio.timeout(20):
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSED
        assert time.monotonic() - began > 2.5


async def test_tcp_looks_for_peers_that_went_without_a_word(scene: Scene) -> None:
    async with scene.socket() as socket:
        await socket.send_bytes(b"x")
        assert await socket.receive_bytes() == b"x"
        transport = socket._writer.transport
        assert isinstance(transport, asyncio.Transport)
        device = transport.get_extra_info("sockname")[1]
        await eventually(lambda: _timers_of_connections_to(device) == {KEEPALIVE})
        await eventually(lambda: _timers_of_connections_to(scene.echo.port) == {KEEPALIVE})


KEEPALIVE = 2


def _timers_of_connections_to(port: int) -> set[int]:
    """The kernel's timers of this machine's established connections to a port (proc_net_tcp.txt: `tr`)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {int(row[5][:2], 16) for row in rows if row[3] == "01" and int(row[2].partition(":")[2], 16) == port}


async def test_a_websocket_is_cut_only_at_the_end_of_the_grace(tmp_path: Path) -> None:
    ca = CertificateAuthority()
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    certificate, key = ca.device("device").write(tmp_path, "device")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / "ca.pem")
    context.load_cert_chain(certificate, key)
    async with _echo() as echo:
        environment = edge_environment(tmp_path, f"http://127.0.0.1:{echo.port}", files, shutdown_grace="3s")
        async with (
            EdgeProcess(environment, directory=tmp_path) as edge,
            aiohttp.ClientSession() as http,
            _socket(http, edge.port, context) as socket,
        ):
            began = time.monotonic()
            edge.process.send_signal(signal.SIGTERM)
            await edge.line("stopping: no new connections")
            while time.monotonic() - began < 2.5:
                await socket.send_bytes(b"x")
                assert await socket.receive_bytes() == b"x"
                await asyncio.sleep(0.1)
            async with asyncio.timeout(5):
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSED
            assert time.monotonic() - began > 2.9
            assert await edge.process.wait() == 0
            assert "1 requests were not finished within shutdown_grace and are cut" in edge.log_text()

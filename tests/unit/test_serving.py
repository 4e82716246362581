"""`serving`: sockets are ours alone or refused in words; an application is served and ended cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mtls_ambassador import serving
from mtls_ambassador.errors import Error
from mtls_ambassador.serving import PEER_UID, HttpServer, WebSockets, tcp_listener, unix_listener
from tests.certificates import CertificateAuthority


async def _hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", _hello)])


async def test_an_application_is_served_while_the_block_lasts() -> None:
    listener = tcp_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with HttpServer(APP, listener), aiohttp.ClientSession() as client:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        async with client.get(f"http://127.0.0.1:{port}/") as answer:
            assert await answer.text() == "hello"
            assert "server" not in answer.headers
            assert "date" not in answer.headers
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_it_is_served_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    connector = aiohttp.UnixConnector(str(path))
    async with (
        HttpServer(APP, unix_listener(path)),
        aiohttp.ClientSession(connector=connector) as client,
        client.get("http://any/") as answer,
    ):
        assert await answer.text() == "hello"


async def test_it_says_who_is_at_the_other_end_of_a_unix_socket(tmp_path: Path) -> None:
    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.scope["extensions"][PEER_UID]))

    path = tmp_path / "socket"
    connector = aiohttp.UnixConnector(str(path))
    async with (
        HttpServer(Starlette(routes=[Route("/", who)]), unix_listener(path), peer_uid=True),
        aiohttp.ClientSession(connector=connector) as client,
    ):
        for _ in range(2):  # on one connection
            async with client.get("http://any/") as answer:
                assert await answer.text() == str(os.getuid())


async def test_it_is_served_with_tls(tmp_path: Path) -> None:
    ca = CertificateAuthority()
    tls = ca.server("localhost", san=["IP:127.0.0.1"]).write(tmp_path, "server")
    listener = tcp_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    context = ssl.create_default_context(cadata=ca.pem.decode())
    async with (
        HttpServer(APP, listener, tls=tls),
        aiohttp.ClientSession() as client,
        client.get(f"https://127.0.0.1:{port}/", ssl=context) as answer,
    ):
        assert await answer.text() == "hello"


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def test_websockets_are_served_where_they_are_wanted() -> None:
    app = Starlette(routes=[WebSocketRoute("/", _echo)])
    listener = tcp_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    how = WebSockets(largest_message=1000, ping_every=0.1, patience=0.1)
    async with HttpServer(app, listener, websockets=how), aiohttp.ClientSession() as client:
        # Not a token (RFC 6455 section 4.1), but what Mender calls its sub-protocol.
        async with client.ws_connect(f"http://127.0.0.1:{port}/", protocols=("protomsg/msgpack",)) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            await socket.send_str("x" * 1001)
            assert (await socket.receive()).data == 1009
        async with client.ws_connect(f"http://127.0.0.1:{port}/", autoping=False) as socket:
            assert (await socket.receive()).type is aiohttp.WSMsgType.PING
            assert (await socket.receive()).data == 1011  # its ping was not answered


async def test_websockets_are_not_served_elsewhere() -> None:
    listener = tcp_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with HttpServer(APP, listener), aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(f"http://127.0.0.1:{port}/")
        assert caught.value.status == 200


async def test_strangers_get_few_connections_and_they_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_MOST_PUBLIC_CONNECTIONS", 2)
    listener = tcp_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with HttpServer(APP, listener, public=True):
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        for _, each in [*kept, (reader, writer)]:
            each.close()
            with contextlib.suppress(OSError):
                await each.wait_closed()


async def test_an_error_in_the_block_ends_the_server_too() -> None:
    listener = tcp_listener("127.0.0.1", 0)
    with pytest.raises(ZeroDivisionError):
        async with HttpServer(APP, listener):
            raise ZeroDivisionError
    assert listener.fileno() == -1


def test_a_unix_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with unix_listener(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_path_that_the_kernel_cuts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"is too long: \d+ bytes, the kernel takes 107\n  Set TMPDIR"):
        unix_listener(tmp_path / ("x" * 107))


def test_a_unix_socket_that_is_there_is_not_stolen(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with unix_listener(path), pytest.raises(OSError, match="Address already in use"):
        unix_listener(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_taken_port_is_refused_in_words(host: str) -> None:
    with tcp_listener(host, 0) as holder:
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(Error, match="Address already in use\n  Stop the program that holds the port") as caught:
            tcp_listener(host, port)
        assert str(port) in str(caught.value)


def test_an_address_that_is_not_ours_is_refused_in_words() -> None:
    with pytest.raises(Error, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        tcp_listener("192.0.2.1", 0)

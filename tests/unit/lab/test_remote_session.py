"""`lab.remote_session`: what a user says to a device, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import msgpack
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mtls_ambassador.lab import remote_session
from mtls_ambassador.lab.messages import (
    CONTROL,
    FILE_TRANSFER,
    SHELL,
    Message,
    MessageError,
    accept_session,
    decode,
    document,
    encode,
)
from mtls_ambassador.lab.remote_session import DeviceRefused, RemoteSession, SessionEnded, WebSocketLink


class Script:
    """A link whose device says what a test has laid down."""

    def __init__(self, *says: Message) -> None:
        self.says = list(says)
        self.heard: list[Message] = []

    async def send(self, message: Message) -> None:
        self.heard.append(message)

    async def receive(self) -> Message:
        if not self.says:
            raise SessionEnded("the device is not connected any more")
        return self.says.pop(0)


def _chunk(offset: int, body: bytes = b"") -> Message:
    return Message(FILE_TRANSFER, "file_chunk", properties={"offset": offset}, body=body)


def _ack(offset: int) -> Message:
    return Message(FILE_TRANSFER, "ack", properties={"offset": offset})


async def test_opening_tells_the_protocols() -> None:
    link = Script(accept_session("s", 1, 2))
    assert await RemoteSession(link).open() == {1, 2}
    assert [(message.protocol, message.kind, message.fields()) for message in link.heard] == [
        (CONTROL, "open", {"versions": [1]})
    ]


async def test_opening_that_is_not_accepted() -> None:
    with pytest.raises(DeviceRefused, match="answered 'open' instead of accepting"):
        await RemoteSession(Script(Message(CONTROL, "open"))).open()
    error = Message(CONTROL, "error", body=document(err="handshake rejected: require version 1", close=True))
    with pytest.raises(DeviceRefused, match="handshake rejected"):
        await RemoteSession(Script(error)).open()


async def test_signs_of_life_are_given() -> None:
    link = Script(Message(CONTROL, "ping"), Message(SHELL, "ping"), Message(CONTROL, "pong"))
    await RemoteSession(link).ping()
    assert [(message.protocol, message.kind) for message in link.heard] == [
        (CONTROL, "ping"),
        (CONTROL, "pong"),
        (SHELL, "pong"),
    ]


async def test_output_is_found_across_messages_and_while_something_else_is_awaited() -> None:
    shell = Message(SHELL, "shell", properties={"status": 1})
    link = Script(
        replace(shell, body=b"early "),
        Message(SHELL, "new", properties={"status": 1}),
        replace(shell, body=b"$ he"),
        Message(CONTROL, "pong"),
        replace(shell, body=b"llo\r\n$ "),
        Message(SHELL, "stop", properties={"status": 1}),
    )
    session = RemoteSession(link)
    await session.start_shell()
    await session.ping()
    assert await session.output_until(b"hello") == b"early $ hello"
    assert await session.output_until(b"$ ") == b"\r\n$ "
    with pytest.raises(DeviceRefused, match="the shell has ended"):
        await session.output_until(b"more")


async def test_long_typing_goes_in_parts_that_mender_connect_takes() -> None:
    link = Script()
    await RemoteSession(link).type(b"x" * 10_000)
    assert [len(message.body) for message in link.heard] == [4096, 4096, 1808]


async def test_a_failed_shell() -> None:
    failed = Message(SHELL, "new", properties={"status": 2}, body=b"user has too many open sessions")
    with pytest.raises(DeviceRefused, match="too many open sessions"):
        await RemoteSession(Script(failed)).start_shell()


async def test_a_stopped_shell_may_tell_of_its_terminals_end() -> None:
    text = b"read /dev/ptmx: input/output error"  # as mender-connect 2.1 does, when it is quicker than its answer
    await RemoteSession(Script(Message(SHELL, "stop", properties={"status": 2}, body=text))).stop_shell()


async def test_download_acknowledges_every_ten_chunks_and_the_end() -> None:
    parts = [bytes([number]) * 10 for number in range(21)]
    link = Script(*(_chunk(10 * number, part) for number, part in enumerate(parts)), _chunk(210))
    assert await RemoteSession(link).download("/x") == b"".join(parts)
    assert link.heard[0].fields() == {"path": "/x"}
    assert [message.properties["offset"] for message in link.heard[1:]] == [100, 200, 210]


async def test_download_in_which_something_is_missing() -> None:
    with pytest.raises(DeviceRefused, match="a chunk of /x is for 20, not 10"):
        await RemoteSession(Script(_chunk(0, b"x" * 10), _chunk(20, b"x"))).download("/x")


async def test_upload_waits_when_too_much_is_unacknowledged() -> None:
    content = b"x" * (4096 * 21)
    with pytest.raises(SessionEnded):
        await RemoteSession(link := Script(_ack(0))).upload("/x", content)
    assert len(link.heard) == 1 + 21  # put_file and chunks, not the end

    async def parts() -> AsyncIterator[bytes]:
        yield content[:5000]
        yield content[5000:]

    link = Script(_ack(0), _ack(4096 * 10), _ack(4096 * 20), _ack(len(content)))
    await RemoteSession(link).upload("/x", parts(), mode=0o600, name="y")
    assert link.heard[0].fields() == {"path": "/x", "mode": 0o600, "src_path": "y"}
    assert b"".join(message.body for message in link.heard[1:]) == content
    assert [message.properties["offset"] for message in link.heard[1:3]] == [0, 4096]
    assert (link.heard[-1].properties["offset"], link.heard[-1].body) == (len(content), b"")


async def test_an_empty_file_is_uploaded() -> None:
    link = Script(_ack(0), _ack(0))
    await RemoteSession(link).upload("/x", b"")
    assert [message.kind for message in link.heard] == ["put_file", "file_chunk"]
    assert link.says == []


async def test_errors_of_file_transfers() -> None:
    error = Message(FILE_TRANSFER, "error", body=document(err="no such file or directory", msgtype="stat"))
    with pytest.raises(DeviceRefused, match="no such file or directory"):
        await RemoteSession(Script(error)).file_info("/x")
    with pytest.raises(DeviceRefused, match="answered 'ack' instead of 'file_info'"):
        await RemoteSession(Script(_ack(0))).file_info("/x")


@pytest.mark.parametrize("protocols", [5, [[1]], ["1"], {"1": 1}], ids=str)
async def test_protocols_that_are_none(protocols: object) -> None:
    accepted = Message(CONTROL, "accept", body=document(version=1, protocols=protocols))
    with pytest.raises(DeviceRefused, match="protocols"):
        await RemoteSession(Script(accepted)).open()


@pytest.mark.parametrize("properties", [{}, {"offset": "z"}, {"offset": None}, {"offset": True}], ids=str)
async def test_an_acknowledgement_of_nothing(properties: dict[str, object]) -> None:
    ack = Message(FILE_TRANSFER, "ack", properties=properties)
    with pytest.raises(DeviceRefused, match="acknowledged"):
        await RemoteSession(Script(_ack(0), ack)).upload("/x", b"x")


async def test_errors_that_cannot_be_read() -> None:
    for protocol in (CONTROL, FILE_TRANSFER):
        with pytest.raises(DeviceRefused, match="cannot be read"):
            await RemoteSession(Script(Message(protocol, "error", body=b"\x01"))).file_info("/x")


async def test_what_a_device_leaves_out_of_a_file_or_does_not_know() -> None:
    info = Message(FILE_TRANSFER, "file_info", body=msgpack.packb({"path": "/x", "size": 5, "mode": None}))
    assert await RemoteSession(Script(info)).file_info("/x") == {"path": "/x", "size": 5}


async def test_silence_and_floods() -> None:
    class Silent(Script):
        async def receive(self) -> Message:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(TimeoutError):
        await RemoteSession(Silent(), patience=0.05).open()


async def test_floods_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_session, "_MOST_KEPT", 3)
    link = Script(*[Message(SHELL, "shell", body=b"x")] * 10)
    with pytest.raises(SessionEnded, match="more than anybody reads"):
        await RemoteSession(link).ping()


async def test_a_websocket_as_link() -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert decode((await socket.receive()).data) == Message(CONTROL, "ping")
        await socket.send_bytes(encode(Message(CONTROL, "pong")))
        await socket.send_bytes(b"\xc1")
        await socket.close(code=1011)
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestServer(app) as server, aiohttp.ClientSession() as http, http.ws_connect(server.make_url("/")) as ws:
        link = WebSocketLink(ws)
        await link.send(Message(CONTROL, "ping"))
        assert await link.receive() == Message(CONTROL, "pong")
        with pytest.raises(MessageError):
            await link.receive()
        with pytest.raises(SessionEnded, match="1011"):
            await link.receive()
        with pytest.raises(SessionEnded):
            await link.send(Message(CONTROL, "ping"))

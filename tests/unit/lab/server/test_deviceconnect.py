"""deviceconnect: devices' WebSockets, users' sessions over them, and files, asked over HTTP as Mender is."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import unquote, urlencode

import aiohttp
import msgpack
import pytest
from starlette.websockets import WebSocketDisconnect

from mtls_ambassador.lab.messages import CONTROL, FILE_TRANSFER, MENDER_CLIENT, SHELL, Message, document, encode
from mtls_ambassador.lab.remote_session import DeviceRefused, RemoteSession, SessionEnded, WebSocketLink
from mtls_ambassador.lab.server import Refusal, deviceconnect, parse_fault
from mtls_ambassador.lab.server.deviceconnect import DeviceSocket
from tests.connected_device import CONNECT, connected_device
from tests.unit.lab.server.conftest import Clock, Start
from tests.unit.lab.server.peer import Peer
from tests.world import eventually

DEVICES = "/api/management/v1/deviceconnect/devices"
MAC = {"mac": "52:54:00:00:00:01"}


def _id(peer: Peer) -> str:
    (device,) = peer.lab.devices()
    return device.id


@asynccontextmanager
async def _user(peer: Peer, device_id: str, token: str | None = None) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {token or peer.token}"}
    async with peer.http.ws_connect(f"{peer.lab.url}{DEVICES}/{device_id}/connect", headers=headers) as socket:
        yield socket


async def _refused(peer: Peer, path: str, token: str) -> tuple[int, str]:
    """Status and error text of an upgrade that is not granted."""
    found = await peer.call(
        "GET",
        path,
        token=token,
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        Sec_WebSocket_Version="13",
    )
    return found.status, found.error


async def test_state_of_a_device(peer: Peer, clock: Clock) -> None:
    token = await peer.accepted(MAC)
    device_id = _id(peer)

    async def state() -> dict[str, str]:
        found = await peer.call("GET", f"{DEVICES}/{device_id}")
        assert found.status == 200
        return dict(found.json)

    before = await state()
    assert before["status"] == "unknown"
    assert before["created_ts"] == before["updated_ts"]
    clock.now += 10
    async with connected_device(peer.lab.url, token):
        connected = await state()
        assert connected == before | {"status": "connected", "updated_ts": "2027-01-15T08:00:10.250Z"}
        assert peer.lab.connected(device_id)
    await eventually(lambda: not peer.lab.connected(device_id))
    assert (await state())["status"] == "disconnected"
    assert (await peer.call("GET", f"{DEVICES}/nobody")).status == 404
    assert [call.status for call in peer.lab.calls() if call.path == CONNECT] == [101]


async def test_the_answer_to_an_upgrade(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    headers = {"Authorization": f"Bearer {token}", "X-MEN-RequestID": "r-1"}
    async with peer.http.ws_connect(peer.lab.url + CONNECT, headers=headers) as socket:
        assert socket._response.headers["X-MEN-RequestID"] == "r-1"
    offered = ("protomsg/msgpack",)
    async with peer.http.ws_connect(peer.lab.url + CONNECT, headers=headers, protocols=offered) as socket:
        assert socket.protocol is None


async def test_upgrades_that_are_refused(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    assert (await _refused(peer, CONNECT, ""))[0] == 401
    assert (await _refused(peer, CONNECT, "a.b.c"))[0] == 401
    assert (await _refused(peer, f"{DEVICES}/{_id(peer)}/connect", token))[0] == 401
    assert await _refused(peer, f"{DEVICES}/{_id(peer)}/connect", peer.token) == (404, "device not connected")
    assert await _refused(peer, f"{DEVICES}/nobody/connect", peer.token) == (404, "device not found")
    assert await _refused(peer, "/api/devices/v1/deviceconnect/other", token) == (404, "not found")
    plain = await peer.call("GET", CONNECT, token=token)
    assert plain.status == 400
    assert "'upgrade' token not found" in plain.error


async def test_an_injected_fault_meets_an_upgrade(start: Start) -> None:
    async with start(faults=(parse_fault(f"status=503,path={CONNECT}"),)) as peer:
        token = await peer.accepted(MAC)
        assert await _refused(peer, CONNECT, token) == (503, "service unavailable")


async def test_a_users_websocket(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device:
        async with _user(peer, _id(peer)) as socket:
            session = RemoteSession(WebSocketLink(socket))
            assert await session.open() == {SHELL, FILE_TRANSFER, MENDER_CLIENT}
            await session.start_shell(width=100, height=30)
            await session.type(b"hello\n")
            assert await session.output_until(b"lo") == b"hello"
            assert await session.output_until(b"\n") == b"\n"
            await session.resize(width=80, height=24)
            await session.ping()
        # Who leaves a shell behind has it stopped.
        await eventually(lambda: (SHELL, "stop") in device.kinds())
        (spawned,) = [message for message in device.seen if message.kind == "new"]
        assert spawned.properties.keys() == {"user_id", "terminal_width", "terminal_height"}
        (stopped,) = [message for message in device.seen if message.kind == "stop"]
        assert stopped.body == b"user disconnected"
        assert {message.session for message in device.seen} == {spawned.session}


async def test_sessions_do_not_mix(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with (
        connected_device(peer.lab.url, token),
        peer.lab.session(_id(peer)) as one,
        peer.lab.session(_id(peer)) as other,
    ):
        for session, text in ((one, b"one;"), (other, b"other;")):
            await session.open()
            await session.start_shell()
            await session.type(text)
        assert await other.output_until(b";") == b"other;"
        assert await one.output_until(b";") == b"one;"
        await one.stop_shell()
        await one.close()


async def test_files_over_http(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    content = random.Random(1).randbytes(500_000)
    place = f"{DEVICES}/{_id(peer)}"
    async with connected_device(peer.lab.url, token) as device:
        form = aiohttp.FormData()
        form.add_field("path", "/tmp/x.bin")
        form.add_field("mode", "0600")
        form.add_field("file", content, filename="y.bin")
        sent = await peer.http.put(
            f"{peer.lab.url}{place}/upload", data=form, headers={"Authorization": f"Bearer {peer.token}"}
        )
        assert sent.status == 201
        assert device.files["/tmp/x.bin"] == content
        (put,) = [message for message in device.seen if message.kind == "put_file"]
        assert put.fields() == {"path": "/tmp/x.bin", "mode": 0o600, "src_path": "y.bin"}
        found = await peer.call("GET", f"{place}/download?path=/tmp/x.bin")
        assert found.status == 200
        assert found.body == content
        assert found.headers["content-disposition"] == 'attachment; filename="x.bin"'
        assert found.headers["x-men-file-size"] == "500000"
        assert found.headers["x-men-file-mode"] == "644"
        missing = await peer.call("GET", f"{place}/download?path=/tmp/none")
        assert missing.status == 400
        assert "no file /tmp/none" in missing.error
        assert (await peer.call("GET", f"{place}/download")).status == 400
        assert (await peer.call("GET", f"{place}/download?path=x")).status == 400
        assert device.kinds().count((CONTROL, "close")) == 3
    await eventually(lambda: not peer.lab.connected(_id(peer)))
    assert (await peer.call("GET", f"{place}/download?path=/tmp/x.bin")).status == 409


def _open_sessions(peer: Peer) -> int:
    sockets = peer.lab._deviceconnect._sockets
    return sum(len(socket.sessions) for socket in sockets.values())


@pytest.mark.parametrize(
    ("path", "disposition", "escaped"),
    [
        ("/tmp/a b.txt", 'filename="a b.txt"', "/tmp/a%20b.txt"),
        (
            "/tmp/журнал.txt",
            "filename=\"______.txt\"; filename*=UTF-8''%D0%B6%D1%83%D1%80%D0%BD%D0%B0%D0%BB.txt",
            "/tmp/%D0%B6%D1%83%D1%80%D0%BD%D0%B0%D0%BB.txt",
        ),
        ('/tmp/"\\', "filename=\"__\"; filename*=UTF-8''%22%5C", "/tmp/%22%5C"),
        ("/tmp/a\r\nSet-Cookie: b", "filename=\"a__Set-Cookie: b\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b", None),
        ("/tmp/50%", "filename=\"50_\"; filename*=UTF-8''50%25", "/tmp/50%25"),
    ],
    ids=["space", "not ASCII", "quoted", "lines", "percent"],
)
async def test_files_of_any_name(peer: Peer, path: str, disposition: str, escaped: str | None) -> None:
    """RFC 6266 section 4.3 and its appendix D; RFC 8187."""
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device:
        device.files[path] = b"content"
        query = urlencode({"path": path})
        found = await peer.call("GET", f"{DEVICES}/{_id(peer)}/download?{query}")
        assert (found.status, found.body) == (200, b"content")
        assert found.headers["content-disposition"] == f"attachment; {disposition}"
        assert unquote(found.headers["x-men-file-path"]) == path
        if escaped is not None:
            assert found.headers["x-men-file-path"] == escaped
        assert "set-cookie" not in found.headers
        await eventually(lambda: _open_sessions(peer) == 0)


@pytest.mark.parametrize(
    "said",
    [
        {"mode": "z"},
        {"mode": -1},
        {"mode": 2**32},
        {"mode": [1]},
        {"mode": True},
        {"size": "1\r\nX: y"},
        {"size": 2**63},
        {"uid": "журнал"},
        {"gid": 1.5},
    ],
    ids=str,
)
async def test_a_device_that_says_nonsense_of_a_file(peer: Peer, said: dict[str, object]) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device:
        device.on_message = lambda message: (
            [Message(FILE_TRANSFER, "file_info", message.session, body=document(path="/x", **said))]
            if message.kind == "stat"
            else None
        )
        found = await peer.call("GET", f"{DEVICES}/{_id(peer)}/download?path=/x")
        assert found.status == 400
        assert f"the {next(iter(said))} of /x" in found.error
        await eventually(lambda: _open_sessions(peer) == 0)
        assert device.kinds()[-1] == (CONTROL, "close")


@pytest.mark.parametrize("body", [b"\x01", b"\xc1", msgpack.packb([1])], ids=["number", "no msgpack", "list"])
@pytest.mark.parametrize("kind", ["open", "stat"])
async def test_a_device_whose_answer_cannot_be_read(peer: Peer, kind: str, body: bytes) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device:
        answer = (
            Message(CONTROL, "accept", body=body) if kind == "open" else Message(FILE_TRANSFER, "file_info", body=body)
        )
        device.on_message = lambda message: [replace(answer, session=message.session)] if message.kind == kind else None
        found = await peer.call("GET", f"{DEVICES}/{_id(peer)}/download?path=/x")
        assert found.status == 400
        assert "cannot be read" in found.error
        await eventually(lambda: _open_sessions(peer) == 0)


async def test_a_user_who_is_gone_before_the_file_comes(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device:
        device.files["/x"] = b"x" * 10
        device.on_message = lambda message: [] if message.kind == "get_file" else None
        request = f"GET {DEVICES}/{_id(peer)}/download?path=/x HTTP/1.1\r\nHost: x\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", peer.lab.port)
        writer.write(f"{request}Authorization: Bearer {peer.token}\r\n\r\n".encode())
        await eventually(lambda: (FILE_TRANSFER, "get_file") in device.kinds())
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: _open_sessions(peer) == 0)


@pytest.mark.parametrize(
    "fields", [{"file": "x"}, {"path": "x", "file": "x"}, {"path": "/x"}, {"path": "/x", "mode": "9"}]
)
async def test_uploads_that_are_not_well_formed(peer: Peer, fields: dict[str, str]) -> None:
    await peer.accepted(MAC)
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value, filename="f" if name == "file" else None)
    if "mode" in fields:
        form.add_field("file", "x", filename="f")
    headers = {"Authorization": f"Bearer {peer.token}"}
    async with peer.http.put(f"{peer.lab.url}{DEVICES}/{_id(peer)}/upload", data=form, headers=headers) as found:
        assert found.status == 400


async def test_file_transfer_that_the_device_does_not_offer(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device:
        device.on_message = lambda message: (
            [Message(CONTROL, "accept", message.session, body=msgpack.packb({"version": 1, "protocols": [1]}))]
            if message.kind == "open"
            else None
        )
        assert (await peer.call("GET", f"{DEVICES}/{_id(peer)}/download?path=/x")).status == 502
        device.on_message = lambda message: [
            Message(CONTROL, "error", message.session, body=msgpack.packb({"err": "no", "close": True}))
        ]
        assert (await peer.call("GET", f"{DEVICES}/{_id(peer)}/download?path=/x")).status == 400


async def test_commands_for_the_mender_client(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    place = f"{DEVICES}/{_id(peer)}"
    assert (await peer.call("POST", f"{place}/check-update")).status == 404
    async with connected_device(peer.lab.url, token) as device:
        for command in ("check-update", "send-inventory"):
            found = await peer.call("POST", f"{place}/{command}")
            assert (found.status, found.text) == (202, "null")
        expected = [(MENDER_CLIENT, "check-update"), (MENDER_CLIENT, "send-inventory")]
        await eventually(lambda: device.kinds() == expected)


async def test_the_end_of_a_device_ends_its_sessions(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device, _user(peer, _id(peer)) as socket:
        async with peer.lab.session(_id(peer)) as session:
            await session.open()
            await device.socket.close()
            for _ in range(2):
                with pytest.raises(SessionEnded):
                    await session.output_until(b"x")
            with pytest.raises(SessionEnded):
                await session.type(b"x")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1011
        with pytest.raises(Refusal, match="device not connected"):
            async with peer.lab.session(_id(peer)):
                pass


@pytest.mark.parametrize("error", [WebSocketDisconnect(1006), RuntimeError("after sending 'websocket.close'")])
async def test_a_device_that_is_gone_before_the_server_knows(error: Exception) -> None:
    async def deliver(_frame: bytes) -> None:
        raise error

    with pytest.raises(SessionEnded):
        await DeviceSocket(deliver).send(Message(CONTROL, "ping"))


async def test_the_newest_of_two_connections_counts(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as old:
        async with connected_device(peer.lab.url, token) as new:
            await old.socket.close()
            async with peer.lab.session(_id(peer)) as session:
                await session.open()
            assert new.kinds() == [(CONTROL, "open")]
            assert peer.lab.connected(_id(peer))
        await eventually(lambda: not peer.lab.connected(_id(peer)))


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\xc1", 1011), (b"x" * (8 * 1024 * 1024 + 1), 1009)],
    ids=["no message", "too large"],
)
async def test_frames_that_end_a_devices_websocket(peer: Peer, frame: bytes, code: int) -> None:
    token = await peer.accepted(MAC)
    headers = {"Authorization": f"Bearer {token}"}
    async with peer.http.ws_connect(peer.lab.url + CONNECT, headers=headers) as socket:
        with contextlib.suppress(ConnectionError):  # the end may come before all of it is sent
            await socket.send_bytes(frame)
        end = await socket.receive()
        assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, code)
    await eventually(lambda: not peer.lab.connected(_id(peer)))


async def test_a_frame_that_ends_a_users_websocket(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device, _user(peer, _id(peer)) as socket:
        await socket.send_bytes(b"\xc1")
        end = await socket.receive()
        assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1011)
        assert device.seen == []
        assert peer.lab.connected(_id(peer))


async def test_a_message_for_nobody_is_dropped(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device:
        await device.socket.send_bytes(encode(Message(SHELL, "shell", "nobody", body=b"x")))
        async with peer.lab.session(_id(peer)) as session:
            await session.open()


async def test_close_code_1006_on_the_wire(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Illegal (RFC 6455 section 7.4.1), and what mender-connect sends when its server is lost."""
    token = await peer.accepted(MAC)
    headers = {"Authorization": f"Bearer {token}"}
    async with peer.http.ws_connect(peer.lab.url + CONNECT, headers=headers) as socket:
        await eventually(lambda: peer.lab.connected(_id(peer)))
        await socket._writer.send_frame((1006).to_bytes(2), aiohttp.WSMsgType.CLOSE)
        await eventually(lambda: not peer.lab.connected(_id(peer)))
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]


async def test_an_abrupt_end(peer: Peer) -> None:
    token = await peer.accepted(MAC)
    headers = {"Authorization": f"Bearer {token}"}
    async with peer.http.ws_connect(peer.lab.url + CONNECT, headers=headers) as socket:
        await eventually(lambda: peer.lab.connected(_id(peer)))
        transport = socket._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        await eventually(lambda: not peer.lab.connected(_id(peer)))


async def test_the_end_of_the_server_closes_websockets(start: Start) -> None:
    async with aiohttp.ClientSession() as http:
        async with start() as peer:
            token = await peer.accepted(MAC)
            socket = await http.ws_connect(peer.lab.url + CONNECT, headers={"Authorization": f"Bearer {token}"})
        end = await socket.receive()
        assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1012)


async def test_what_nobody_reads_ends_the_session(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deviceconnect, "_MOST_WAITING", 10)
    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device, peer.lab.session(_id(peer)) as session:
        await session.open()
        sid = device.seen[-1].session
        for _ in range(20):
            await device.send(Message(SHELL, "shell", sid, {"status": 1}, b"x"))
        await device.send(Message(CONTROL, "pong", sid))
        await asyncio.sleep(0.2)
        with pytest.raises(SessionEnded):
            await session.output_until(b"y")


async def test_a_refusal_of_the_device_is_told(peer: Peer) -> None:
    def refuse(message: Message) -> list[Message] | None:
        if message.kind == "new":
            return [Message(SHELL, "new", message.session, {"status": 2}, b"too many shells spawned")]
        return None

    token = await peer.accepted(MAC)
    async with connected_device(peer.lab.url, token) as device, peer.lab.session(_id(peer)) as session:
        device.on_message = refuse
        await session.open()
        with pytest.raises(DeviceRefused, match="too many shells spawned"):
            await session.start_shell()

"""A user's session with a device by way of Mender: its terminal, and files to and from it.

The user opens the session; the device accepts and says what it offers. Files go in chunks, of which only so many are
under way before the receiver must have acknowledged.
Source: mender-connect 2.1 (session/, app/daemon_shell.go); Mender deviceconnect (management_filetransfer.go).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import aiohttp

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.messages import (
    CONTROL,
    FILE_TRANSFER,
    SHELL,
    Message,
    MessageError,
    decode,
    document,
    encode,
    open_session,
)

_CHUNK = 4096  # bytes; mender-connect takes no message over 8192
_UNACKNOWLEDGED = 20  # chunks
_ACKNOWLEDGED_EVERY = 10  # chunks
_FILE_NUMBERS = {"size": 63, "mode": 32, "uid": 32, "gid": 32}  # bits (ws/filetransfer, FileInfo)
_FAILED = 2  # status of a shell's answer: 1 is well
_MOST_KEPT = 10_000  # messages of one protocol while another is waited for


class SessionEnded(Error):
    """The connection is gone, the device's or the user's."""


class DeviceRefused(Error):
    """The device answered with an error, or with something out of turn."""


class Link(Protocol):
    """Carries messages between user and device."""

    async def send(self, message: Message) -> None:
        """Send to the device; `SessionEnded` if it is gone."""

    async def receive(self) -> Message:
        """The next message from the device; `SessionEnded` if it is gone."""


class WebSocketLink:
    """The link of a user with a WebSocket at Mender's management API."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: Message) -> None:
        """Send to the device.

        Raises:
            SessionEnded: the WebSocket is closed.
        """
        try:
            await self._socket.send_bytes(encode(message))
        except (aiohttp.ClientError, OSError) as error:
            raise SessionEnded(f"the WebSocket is closed: {error}") from error

    async def receive(self) -> Message:
        """The next message from the device.

        Raises:
            SessionEnded: the WebSocket is closed.
            MessageError: that was none.
        """
        frame = await self._socket.receive()
        if frame.type is not aiohttp.WSMsgType.BINARY:
            raise SessionEnded(f"the WebSocket is closed: {self._socket.close_code}")
        return decode(frame.data)


class RemoteSession:
    """One session; its calls go one after the other.

    Every call raises `SessionEnded` when the connection is lost, `DeviceRefused` when the device does not do it, and
    `TimeoutError` when it stays silent.

    Args:
        link: To the device.
        patience: Seconds to wait for each answer.
    """

    def __init__(self, link: Link, *, patience: float = 30.0) -> None:
        self._link = link
        self._patience = patience
        self._kept: dict[int, deque[Message]] = {}
        self._output = bytearray()

    async def open(self) -> frozenset[int]:
        """Begin; returns the protocols that the device offers."""
        await self._link.send(open_session())
        accepted = await self._next(CONTROL)
        if accepted.kind != "accept":
            raise DeviceRefused(f"the device answered {accepted.kind!r} instead of accepting the session")
        protocols = _fields(accepted).get("protocols") or []
        if not isinstance(protocols, list) or not all(isinstance(protocol, int) for protocol in protocols):
            raise DeviceRefused("the device offers protocols that are none")
        return frozenset(protocols)

    async def close(self) -> None:
        """Tell the device that the session is over."""
        await self._link.send(Message(CONTROL, "close"))

    async def ping(self) -> None:
        """Ask the device for a sign of life."""
        await self._link.send(Message(CONTROL, "ping"))
        while (await self._next(CONTROL)).kind != "pong":
            pass

    async def start_shell(self, *, width: int = 80, height: int = 24) -> None:
        """Start a shell in a terminal of so many columns and rows; a device has one for each user by default."""
        await self._shell("new", terminal_width=width, terminal_height=height)
        _check_status(await self._shell_answer("new"))

    async def type(self, text: bytes) -> None:
        """Type into the shell's terminal; a line ends with a newline."""
        for start in range(0, len(text), _CHUNK):
            await self._shell("shell", body=text[start : start + _CHUNK])

    async def resize(self, *, width: int, height: int) -> None:
        """Tell the shell that its terminal has another size."""
        await self._shell("resize", terminal_width=width, terminal_height=height)

    async def output_until(self, end: bytes) -> bytes:
        """What the terminal shows up to and with `end`; the typing is echoed there too."""
        while (at := self._output.find(end)) < 0:
            message = await self._next(SHELL)
            if message.kind == "shell":
                _check_status(message)
                self._output += message.body
            elif message.kind == "stop":
                raise DeviceRefused("the shell has ended")
        shown = bytes(self._output[: at + len(end)])
        del self._output[: at + len(end)]
        return shown

    async def stop_shell(self) -> None:
        """End the shell."""
        await self._shell("stop")
        # Whatever its status: the shell's end may be told first, as an error of reading its terminal.
        await self._shell_answer("stop")

    async def file_info(self, path: str) -> Mapping[str, Any]:
        """What the device says of a file: path, size, mode, uid, gid, modtime; what it leaves out is not there."""
        await self._file("stat", document(path=path))
        info = _fields(await self._file_answer("file_info"))
        for name, bits in _FILE_NUMBERS.items():
            value = info.get(name)
            if value is not None and (type(value) is not int or not 0 <= value < 1 << bits):
                raise DeviceRefused(f"the {name} of {path} is {value!r}, says the device")
        return {name: value for name, value in info.items() if value is not None}

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """The content of a file on the device, in parts."""
        await self._file("get_file", document(path=path))
        offset = chunks = 0
        while True:
            part = await self._file_answer("file_chunk")
            if part.properties.get("offset") != offset:
                raise DeviceRefused(f"a chunk of {path} is for {part.properties.get('offset')}, not {offset}")
            if not part.body:
                break
            yield part.body
            offset, chunks = offset + len(part.body), chunks + 1
            if chunks % _ACKNOWLEDGED_EVERY == 0:
                await self._file("ack", offset=offset)
        await self._file("ack", offset=offset)

    async def download(self, path: str) -> bytes:
        """The content of a file on the device."""
        return b"".join([part async for part in self.read(path)])

    async def upload(
        self, path: str, parts: AsyncIterator[bytes] | bytes, *, mode: int | None = None, name: str | None = None
    ) -> None:
        """Write a file on the device.

        The device acknowledges the end before it puts the file into its place, and takes a moment for that.

        Args:
            path: Where to; a directory if `name` is given.
            parts: Content.
            mode: Permissions; 0644 if None.
            name: What the file is called here.
        """
        await self._file("put_file", document(path=path, mode=mode, src_path=name))
        await self._file_answer("ack")
        sent = acknowledged = 0
        async for chunk in _chunks(parts):
            await self._file("file_chunk", chunk, offset=sent)
            sent += len(chunk)
            while sent > acknowledged + _UNACKNOWLEDGED * _CHUNK:
                acknowledged = _acknowledged(await self._file_answer("ack"))
        await self._file("file_chunk", offset=sent)
        while _acknowledged(await self._file_answer("ack")) < sent:
            pass

    async def _shell(self, kind: str, body: bytes = b"", **properties: int) -> None:
        await self._link.send(Message(SHELL, kind, properties=properties, body=body))

    async def _shell_answer(self, kind: str) -> Message:
        while (message := await self._next(SHELL)).kind != kind:
            if message.kind == "shell":
                self._output += message.body
        return message

    async def _file(self, kind: str, body: bytes = b"", **properties: int) -> None:
        await self._link.send(Message(FILE_TRANSFER, kind, properties=properties, body=body))

    async def _file_answer(self, kind: str) -> Message:
        message = await self._next(FILE_TRANSFER)
        if message.kind == "error":
            raise DeviceRefused(f"the device refused a file transfer: {_fields(message).get('err')}")
        if message.kind != kind:
            raise DeviceRefused(f"the device answered {message.kind!r} instead of {kind!r}")
        return message

    async def _next(self, protocol: int) -> Message:
        """The next message of a protocol; what comes of others is kept, and signs of life are given."""
        waiting = self._kept.setdefault(protocol, deque())
        async with asyncio.timeout(self._patience):
            while not waiting:
                message = await self._link.receive()
                if message.kind == "ping" and message.protocol in {CONTROL, SHELL}:
                    await self._link.send(Message(message.protocol, "pong"))
                elif message.protocol == CONTROL and message.kind == "error":
                    raise DeviceRefused(f"the device ended the session: {_fields(message).get('err')}")
                else:
                    kept = self._kept.setdefault(message.protocol, deque())
                    kept.append(message)
                    if len(kept) > _MOST_KEPT:
                        raise SessionEnded("the device sends more than anybody reads")
        return waiting.popleft()


def _fields(message: Message) -> Mapping[str, Any]:
    try:
        return message.fields()
    except MessageError as error:
        raise DeviceRefused(f"the device's answer {message.kind!r} cannot be read: {error.what}") from error


def _acknowledged(message: Message) -> int:
    offset = message.properties.get("offset")
    if type(offset) is not int:
        raise DeviceRefused(f"the device acknowledged {offset!r} of the file")
    return offset


def _check_status(message: Message) -> None:
    if message.properties.get("status") == _FAILED:
        raise DeviceRefused(f"the device's shell failed: {message.body.decode(errors='replace')}")


async def _chunks(parts: AsyncIterator[bytes] | bytes) -> AsyncIterator[bytes]:
    if isinstance(parts, bytes):
        for start in range(0, len(parts), _CHUNK):
            yield parts[start : start + _CHUNK]
        return
    async for part in parts:
        async for chunk in _chunks(part):
            yield chunk

"""A device that speaks mender-connect's protocol over a WebSocket, for tests that need no real one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

import aiohttp

from mtls_ambassador.lab.messages import (
    CONTROL,
    FILE_TRANSFER,
    MENDER_CLIENT,
    SHELL,
    Message,
    accept_session,
    decode,
    document,
    encode,
)

CONNECT = "/api/devices/v1/deviceconnect/connect"
_CHUNK = 4096


class ConnectedDevice:
    """Accepts sessions, echoes what is typed, and keeps files in a dictionary.

    Args:
        socket: Its WebSocket.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.files: dict[str, bytes] = {}
        self.seen: list[Message] = []
        """Every message, in order of arrival."""
        self.on_message: Callable[[Message], list[Message] | None] = lambda _message: None
        """Answers instead of the device; None leaves it to the device."""
        self._upload: tuple[str, bytearray] | None = None

    async def run(self) -> None:
        """Answer until the WebSocket ends."""
        async for frame in self.socket:
            message = decode(frame.data)
            self.seen.append(message)
            answers = self.on_message(message)
            for answer in self._answers(message) if answers is None else answers:
                await self.send(answer)

    async def send(self, message: Message) -> None:
        await self.socket.send_bytes(encode(message))

    def kinds(self) -> list[tuple[int, str]]:
        """Protocol and kind of what has come."""
        return [(message.protocol, message.kind) for message in self.seen]

    def _answers(self, message: Message) -> list[Message]:
        sid = message.session
        match message.protocol, message.kind:
            case (0xFFFF, "open"):
                return [accept_session(sid, SHELL, FILE_TRANSFER, MENDER_CLIENT)]
            case (0xFFFF, "ping"):
                return [Message(CONTROL, "pong", sid)]
            case (1, "new" | "stop"):
                return [Message(SHELL, message.kind, sid, {"status": 1}, b"Shell")]
            case (1, "shell"):
                return [Message(SHELL, "shell", sid, {"status": 1}, message.body)]
            case (2, _):
                return self._file(message)
        return []

    def _file(self, message: Message) -> list[Message]:
        sid = message.session
        path = str(message.fields().get("path", "")) if message.kind != "file_chunk" else ""
        if message.kind in {"stat", "get_file"} and path not in self.files:
            return [Message(FILE_TRANSFER, "error", sid, body=document(err=f"no file {path}", msgtype=message.kind))]
        if message.kind == "stat":
            info = document(path=path, size=len(self.files[path]), mode=0o644, uid=0, gid=0)
            return [Message(FILE_TRANSFER, "file_info", sid, body=info)]
        if message.kind == "get_file":
            content = self.files[path]
            starts = [*range(0, len(content), _CHUNK), len(content)]
            return [
                Message(FILE_TRANSFER, "file_chunk", sid, {"offset": start}, content[start : start + _CHUNK])
                for start in starts
            ]
        if message.kind == "put_file":
            self._upload = (path, bytearray())
            return [Message(FILE_TRANSFER, "ack", sid, {"offset": 0})]
        if message.kind == "file_chunk" and self._upload is not None:
            to, content_so_far = self._upload
            if not message.body:
                self.files[to] = bytes(content_so_far)
            content_so_far += message.body
            return [Message(FILE_TRANSFER, "ack", sid, {"offset": message.properties["offset"]})]
        return []


@contextlib.asynccontextmanager
async def connected_device(
    url: str, token: str, *, tls: ssl.SSLContext | None = None, server_hostname: str | None = None
) -> AsyncIterator[ConnectedDevice]:
    """A device that is connected and answers.

    Args:
        url: Of the server, without a slash at the end.
        token: The device's.
        tls: For https.
        server_hostname: The name in the server's certificate, if it is not that of `url`.
    """
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            url + CONNECT,
            headers={"Authorization": f"Bearer {token}"},
            ssl=tls or True,
            server_hostname=server_hostname,
            max_msg_size=0,
        ) as socket,
    ):
        device = ConnectedDevice(socket)
        running = asyncio.create_task(device.run())
        try:
            yield device
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

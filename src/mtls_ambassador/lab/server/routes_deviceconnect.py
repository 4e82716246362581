"""The HTTP side of deviceconnect: WebSockets of devices and of users, and files over them.

Source: Mender deviceconnect, devices API v1 and management API v1 (api/http/router.go).
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from mtls_ambassador.lab.messages import FILE_TRANSFER, MessageError, decode, encode
from mtls_ambassador.lab.remote_session import DeviceRefused, RemoteSession, SessionEnded
from mtls_ambassador.lab.server.deviceconnect import Deviceconnect, UserSession
from mtls_ambassador.lab.server.exchange import answer, empty, error
from mtls_ambassador.lab.server.refusals import Refusal

LARGEST_MESSAGE = 8 * 1024 * 1024
"""Bytes of one message of a device or user."""

SILENCE = 60.0
"""Seconds without a sign of life after which a WebSocket is closed; it is pinged at half of that."""

_CONNECT = "/api/devices/v1/deviceconnect/connect"
_DEVICE = "/api/management/v1/deviceconnect/devices/{device_id}"
_NOT_REGULAR = 0x8F280000  # the bits of a mode that tell, in Go, a directory, a device and so on (os.ModeType)
_NO_UPGRADE = (
    "websocket: the client is not using the websocket protocol: 'upgrade' token not found in 'Connection' header"
)


def deviceconnect_routes(service: Deviceconnect) -> list[BaseRoute]:
    """The routes of the service."""
    handlers = _Handlers(service)
    return [
        WebSocketRoute(_CONNECT, handlers.device_socket),
        WebSocketRoute(f"{_DEVICE}/connect", handlers.user_socket),
        # After the others: what is a WebSocket there, and is not asked as one.
        Route(_CONNECT, _not_upgraded, methods=["GET"]),
        Route(f"{_DEVICE}/connect", _not_upgraded, methods=["GET"]),
        WebSocketRoute("/{path:path}", _no_such_socket),
        Route(_DEVICE, handlers.connectivity, methods=["GET"]),
        Route(f"{_DEVICE}/check-update", handlers.command, methods=["POST"]),
        Route(f"{_DEVICE}/send-inventory", handlers.command, methods=["POST"]),
        Route(f"{_DEVICE}/download", handlers.download, methods=["GET"]),
        Route(f"{_DEVICE}/upload", handlers.upload, methods=["PUT"]),
    ]


class _Handlers:
    def __init__(self, service: Deviceconnect) -> None:
        self._service = service

    async def device_socket(self, socket: WebSocket) -> None:
        await socket.accept()
        with self._service.attached(socket.state.device_id, socket.send_bytes) as device:
            async for frame in _frames(socket):
                try:
                    device.take(frame)
                except MessageError:
                    await _close(socket, 1011, "internal error")
                    return

    async def user_socket(self, socket: WebSocket) -> None:
        try:
            async with self._session(socket) as session:
                await socket.accept()
                await _relay(socket, session)
        except Refusal as refusal:
            await _deny(socket, refusal)

    async def connectivity(self, request: Request) -> Response:
        found = self._service.connectivity(request.path_params["device_id"])
        return answer(
            {
                "device_id": found.device_id,
                "status": found.status,
                "created_ts": found.created,
                "updated_ts": found.updated,
            }
        )

    async def command(self, request: Request) -> Response:
        kind = request.url.path.rpartition("/")[2]
        await self._service.command(request.path_params["device_id"], request.state.user_token.user_id, kind)
        return answer(None, 202)

    async def download(self, request: Request) -> Response:
        path = request.query_params.get("path", "")
        if not path.startswith("/"):
            raise Refusal(400, "path: must be absolute." if path else "path: cannot be blank.")
        async with contextlib.AsyncExitStack() as stack:
            remote = await stack.enter_async_context(self._files(request))
            with _as_refusal("failed to retrieve file info: error received from device: "):
                info = await remote.file_info(path)
            if info.get("mode", 0) & _NOT_REGULAR:
                raise Refusal(400, "path is not a regular file")
            response = _Download(remote.read(path), headers=_file_headers(path, info))
            response.stack = stack.pop_all()  # last: from here on only the response ends the session
        return response

    async def upload(self, request: Request) -> Response:
        async with request.form(max_files=1, max_fields=4) as form:
            file, path, mode = form.get("file"), form.get("path"), form.get("mode")
            if not isinstance(path, str) or not path.startswith("/"):
                raise Refusal(400, "path: must be absolute." if path else "path: cannot be blank.")
            if file is None or isinstance(file, str):
                raise Refusal(400, "file: cannot be blank.")
            try:
                permissions = int(str(mode), 8) if mode else None
            except ValueError:
                raise Refusal(400, f'strconv.ParseUint: parsing "{mode}": invalid syntax') from None
            async with self._files(request) as remote:
                with _as_refusal(""):
                    await remote.upload(path, _parts(file), mode=permissions, name=file.filename)
        return empty(201)

    def _session(
        self, connection: Request | WebSocket, *, absent: int = 404
    ) -> AbstractAsyncContextManager[UserSession]:
        user_id = connection.state.user_token.user_id
        return self._service.session(connection.path_params["device_id"], user_id, absent=absent)

    @contextlib.asynccontextmanager
    async def _files(self, request: Request) -> AsyncIterator[RemoteSession]:
        async with self._session(request, absent=409) as session:
            remote = RemoteSession(session, patience=SILENCE)
            with _as_refusal("handshake error from client: "):
                if FILE_TRANSFER not in await remote.open():
                    raise Refusal(502, "file transfer disabled on device")
            try:
                yield remote
            finally:
                with contextlib.suppress(SessionEnded):
                    await remote.close()


class _Download(StreamingResponse):
    """A file on its way, which ends its session with the device however it ends itself."""

    stack: contextlib.AsyncExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.stack:
            await super().__call__(scope, receive, send)


async def _relay(socket: WebSocket, session: UserSession) -> None:
    """Pass messages on, both ways, until one side ends."""

    async def from_device() -> None:
        while True:
            await socket.send_bytes(encode(await session.receive()))

    async def from_user() -> None:
        async for frame in _frames(socket):
            await session.send(decode(frame))

    tasks = [asyncio.ensure_future(from_device()), asyncio.ensure_future(from_user())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, SessionEnded | MessageError)]
    await _close(socket, 1011 if failed else 1000, "internal error" if failed else "")


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it is closed already
        await socket.close(code, reason)


async def _frames(socket: WebSocket) -> AsyncIterator[bytes]:
    """What the peer sends, binary or not, until it ends."""
    while (message := await socket.receive())["type"] == "websocket.receive":
        yield message.get("bytes") or (message.get("text") or "").encode()


async def _deny(socket: WebSocket, refusal: Refusal) -> None:
    # An error's body names the request's id, which a WebSocket has as well.
    await socket.send_denial_response(error(socket, refusal.status, refusal.what))


async def _no_such_socket(socket: WebSocket) -> None:
    await _deny(socket, Refusal(404, "not found"))


async def _not_upgraded(_: Request) -> Response:
    raise Refusal(400, _NO_UPGRADE)


@contextlib.contextmanager
def _as_refusal(prefix: str) -> Iterator[None]:
    """Answer what goes wrong with a device as deviceconnect does."""
    try:
        yield
    except DeviceRefused as reason:
        raise Refusal(400, f"{prefix}{reason.what}") from None
    except TimeoutError:
        raise Refusal(408, "file transfer timed out") from None
    except SessionEnded as reason:
        raise Refusal(500, reason.what) from None


async def _parts(file: Any) -> AsyncIterator[bytes]:
    while part := await file.read(64 * 1024):
        yield part


def _file_headers(path: str, info: Mapping[str, Any]) -> dict[str, str]:
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": _attachment(posixpath.basename(path)),
        "X-MEN-File-Path": quote(path),
    }
    for name in ("uid", "gid", "size"):
        if name in info:
            headers[f"X-MEN-File-{name.upper() if name != 'size' else 'Size'}"] = str(info[name])
    if "mode" in info:
        headers["X-MEN-File-Mode"] = f"{info['mode']:o}"
    return headers


def _attachment(name: str) -> str:
    """Content-Disposition of a file of any name (RFC 6266): what not all read alike is told in UTF-8 as well."""
    plain = re.sub(r"[^ !#$&-\[\]-~]", "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'

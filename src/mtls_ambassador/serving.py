"""Serving an ASGI application from inside our own event loop: no signal handlers, no log set-up, no files."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mtls_ambassador.errors import Error

PEER_UID = "peer_uid"
"""The extension of the ASGI scope that holds the user id of who has connected, as the kernel has it."""

_MOST_PUBLIC_CONNECTIONS = 64
_CREDENTIALS = struct.Struct("iII")
"""`struct ucred` of unix(7): process, user, group."""


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handling and its clock: signals and time belong to whoever runs the loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes ten times a second for a date header that is switched off."""
        await self.stop.wait()
        self.should_exit = True


class _BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of which there are only so many connections, and none that stays silent."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _MOST_PUBLIC_CONNECTIONS:
            transport.abort()
            return
        # Taken back by the first byte, like uvicorn's own between two requests.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


class _LocalProtocol(HttpToolsProtocol):
    """HTTP/1.1 through a Unix socket; each request says which user is at the other end."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        end = self.transport.get_extra_info("socket")
        _, uid, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        self.scope["extensions"] = {PEER_UID: uid}


class _UpgradingProtocol(HttpToolsProtocol):
    """HTTP/1.1 of which a connection may become a WebSocket, without a sub-protocol."""

    def handle_websocket_upgrade(self) -> None:
        # Mender's only one, protomsg/msgpack, is no token (RFC 6455 section 4.1): it would be refused.
        self.scope["headers"] = [pair for pair in self.headers if pair[0] != b"sec-websocket-protocol"]
        super().handle_websocket_upgrade()


@dataclass(frozen=True)
class WebSockets:
    """How WebSockets are served.

    Attributes:
        largest_message: Bytes that a peer may send in one message; more closes the WebSocket.
        ping_every: Seconds between two pings to a peer.
        patience: Seconds to wait for the answer to a ping; then the WebSocket is closed.
    """

    largest_message: int
    ping_every: float
    patience: float


class HttpServer:
    """An ASGI application on one listening socket, for the time of an `async with`.

    Args:
        app: The ASGI application.
        listener: A bound socket (TCP or Unix); the server listens on it and closes it at the end.
        tls: Certificate chain and private key, PEM files; None for plain HTTP.
        grace: Seconds that requests in progress get when the block is left.
        public: Whether strangers may reach it: then connections are few, and do not stay when they have nothing to say,
            so that they cannot use up the process's file descriptors.
        peer_uid: Whether each request says in its scope (`PEER_UID`) who is at the other end of a Unix socket.
        websockets: How to serve WebSockets, where `public` is false; None: an upgrade is not heard (RFC 9110 section
            7.8).
    """

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        *,
        tls: tuple[Path, Path] | None = None,
        grace: float = 5.0,
        public: bool = False,
        peer_uid: bool = False,
        websockets: WebSockets | None = None,
    ) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            loop="none",
            http=_protocol(public=public, peer_uid=peer_uid, upgrades=websockets is not None),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            # For Envoy longer than it keeps an idle upstream connection, so that Envoy closes first.
            timeout_keep_alive=5 if public else 75,
            ws="websockets-sansio" if websockets else "none",
            **(_websocket_options(websockets) if websockets else {}),
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
            timeout_graceful_shutdown=max(1, round(grace)),
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start; when it returns, connections are accepted.

        Raises:
            Error: the server ended before it was up.
        """
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http-server")
        while not self._server.started:
            if self._task.done():
                try:
                    await self._task
                except OSError as error:  # ssl.SSLError is one
                    raise Error(
                        f"the HTTP server cannot use its certificate and key: {error}",
                        "Give PEM files of a certificate and the private key that belongs to it.",
                    ) from error
                raise Error(f"the HTTP server on {self._listener.getsockname()} did not start")
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop.set()
        if self._task is not None:
            await self._task


def has_ipv6() -> bool:
    """Whether a socket can listen on every IPv6 address of this machine."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def any_address() -> str:
    """The address that stands for all of this machine's: IPv6 and IPv4 where it has both."""
    return "::" if has_ipv6() else "0.0.0.0"  # noqa: S104 - whoever asks has left the address out


def _protocol(*, public: bool, peer_uid: bool, upgrades: bool) -> type[HttpToolsProtocol]:
    if public:
        return _BoundedProtocol
    if peer_uid:
        return _LocalProtocol
    return _UpgradingProtocol if upgrades else HttpToolsProtocol


def _websocket_options(how: WebSockets) -> dict[str, Any]:
    return {
        "ws_max_size": how.largest_message,
        "ws_ping_interval": how.ping_every,
        "ws_ping_timeout": how.patience,
        "ws_per_message_deflate": False,
    }


def unix_listener(path: Path) -> socket.socket:
    """A Unix stream socket bound at `path` that only its owner may connect to (mode 0600).

    Raises:
        Error: the path is longer than the kernel takes (107 bytes).
    """
    if len(bytes(path)) > 107:
        raise Error(
            f"the socket path {path} is too long: {len(bytes(path))} bytes, the kernel takes 107",
            "Set TMPDIR to a directory with a shorter path.",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener


def tcp_listener(host: str, port: int) -> socket.socket:
    """A TCP socket bound to `host` (an address, IPv4 or IPv6) and `port` (0: any free one).

    Raises:
        Error: the address is taken, not ours, or the port needs a privilege.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio switches Nagle's algorithm off only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Error(
            f"cannot listen on {f'[{host}]' if ':' in host else host}:{port}: {error.strerror}",
            "Stop the program that holds the port, or choose another.",
        ) from error
    return listener

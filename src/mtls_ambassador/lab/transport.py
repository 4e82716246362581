"""How a simulated device reaches its server: connections as the two real clients make them, and a stopwatch."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import Any, TypeAlias

import aiohttp
from yarl import URL

from mtls_ambassador.errors import Error

Observer: TypeAlias = Callable[[str, float, int | None], None]
"""Is told of each call: its kind, the seconds it took, and its HTTP status (0 where it has none, None: no answer)."""

_IDLE = 7200.0
"""Seconds that the Go client keeps an idle connection: longer than its longest pause."""
_PING_EVERY = 54.0
"""Seconds, as mender-connect."""
_LARGEST_MESSAGE = 8192
"""Bytes, as mender-connect."""


class Style(StrEnum):
    """Whose habits a device has."""

    CPP = "cpp"
    """The C++ clients (4.x, 5.x): a new TLS connection for each request, bodies with Content-Length."""
    GO = "go"
    """The Go client (3.4): one connection, kept alive; all bodies but that of the auth request are chunked."""


class DeviceError(Error):
    """A simulated device cannot go on; also the base of the two below."""


class UnreachableError(DeviceError):
    """No HTTP answer: nobody listens, the TLS handshake failed, or the peer closed the connection."""


class RefusedError(DeviceError):
    """An answer with a `status` the call does not allow; `text` is its JSON `error`, else how the body begins."""

    def __init__(self, what: str, status: int, body: str) -> None:
        self.status = status
        self.text = " ".join(str((json_object(body) or {}).get("error", body)).split())[:200]
        super().__init__(f"{what}: {status} {self.text}".rstrip())


@dataclass(frozen=True)
class Route:
    """The way to the server.

    Attributes:
        server_url: `https://host[:port]`.
        address: IP address to connect to, instead of asking DNS for that host.
        style: Whose habits the connections have.
        timeout: Seconds for one request.
        observe: Is told of each call, and as `connection` of each TCP connection with its TLS handshake.
    """

    server_url: str
    address: str | None = None
    style: Style = Style.GO
    timeout: float = 30.0
    observe: Observer | None = field(default=None, repr=False)


class Transport:
    """Requests and WebSockets of one device; `close` ends it.

    Args:
        route: The way to the server.
        tls: The client's side of TLS.
    """

    def __init__(self, route: Route, tls: ssl.SSLContext) -> None:
        self._route = route
        self._tls = tls
        self._session = self._open(keep=route.style is Style.GO)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def answer(
        self,
        kind: str,
        method: str,
        target: str,
        *,
        headers: dict[str, str],
        body: bytes = b"",
        chunked: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the answer is read in the block, with which the time it took ends.

        Args:
            kind: What the observer is told.
            method: HTTP method.
            target: A path, or a whole URL for what has a connection of its own.
            headers: All but `Host`.
            body: May be empty.
            chunked: Whether the body goes without Content-Length.

        Raises:
            UnreachableError: no answer, or only a part of it.
        """
        separate = not target.startswith("/")
        url = URL(target if separate else self._route.server_url.rstrip("/") + target, encoded=True)
        session = self._open(keep=False) if separate else self._session
        began = time.monotonic()
        try:
            async with session.request(
                method,
                self._reachable(url),
                headers={**headers, "Host": url.host_port_subcomponent or ""},
                data=body or None,
                chunked=chunked or None,
                allow_redirects=False,
                server_hostname=url.raw_host,
            ) as response:
                yield response
                self._tell(kind, began, response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._tell(kind, began, None)
            raise _unreachable(method, url, error) from error
        except RefusedError as error:
            self._tell(kind, began, error.status)
            raise
        finally:
            if separate:
                await session.close()

    @asynccontextmanager
    async def socket(self, path: str, token: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket for the time of the block; pings are sent, and answered by themselves.

        Raises:
            RefusedError: any answer but 101.
            UnreachableError: no answer.
        """
        url = URL(self._route.server_url.rstrip("/") + path)
        began = time.monotonic()
        try:
            socket = await self._session.ws_connect(
                self._reachable(url),
                headers={"Authorization": f"Bearer {token}", "Host": url.host_port_subcomponent or ""},
                server_hostname=url.raw_host,
                heartbeat=_PING_EVERY,
                max_msg_size=_LARGEST_MESSAGE,
            )
        except aiohttp.WSServerHandshakeError as error:
            self._tell("websocket", began, error.status)
            raise RefusedError("the WebSocket was refused", error.status, error.message) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._tell("websocket", began, None)
            raise _unreachable("GET", url, error) from error
        self._tell("websocket", began, 101)
        async with socket:
            yield socket

    def _open(self, *, keep: bool) -> aiohttp.ClientSession:
        go = self._route.style is Style.GO
        if keep:
            connector = aiohttp.TCPConnector(ssl=self._tls, keepalive_timeout=_IDLE)
        else:
            connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._route.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "Go-http-client/1.1"} if go else None,
            skip_auto_headers=() if go else ("User-Agent",),
            trace_configs=[_connections_to(self._route.observe)] if self._route.observe is not None else None,
        )

    def _reachable(self, url: URL) -> URL:
        ours = url.raw_host == URL(self._route.server_url).raw_host
        return url.with_host(self._route.address) if self._route.address and ours else url

    def _tell(self, kind: str, began: float, status: int | None) -> None:
        if self._route.observe is not None:
            self._route.observe(kind, time.monotonic() - began, status)


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is, if it is one."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _connections_to(observe: Observer) -> aiohttp.TraceConfig:
    """Tell of every connection that was made."""
    trace = aiohttp.TraceConfig()

    async def begins(_session: object, context: SimpleNamespace, _parameters: object) -> None:
        context.began = time.monotonic()

    async def ends(_session: object, context: SimpleNamespace, _parameters: object) -> None:
        observe("connection", time.monotonic() - context.began, 0)

    trace.on_connection_create_start.append(begins)
    trace.on_connection_create_end.append(ends)
    return trace


def _unreachable(method: str, url: URL, error: Exception) -> UnreachableError:
    return UnreachableError(f"{method} {url.with_query(None)} got no answer: {str(error) or type(error).__name__}")

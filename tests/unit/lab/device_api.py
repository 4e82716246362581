"""A device API for unit tests: answers what it is told to, and remembers what it was asked."""

from __future__ import annotations

import json
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from mtls_ambassador.lab.auth_request import Attributes
from mtls_ambassador.lab.credentials import Credentials
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY, NEXT_V1, NEXT_V2, SimulatedDevice
from mtls_ambassador.lab.transport import Observer, Style

ARTIFACT = b"artifact" * 1024


class DeviceApi:
    """Every device is accepted, and there is nothing to do, unless `special` says otherwise."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.special: defaultdict[str, list[Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]]
        self.special = defaultdict(list)
        self.sockets: list[web.WebSocketResponse] = []

    def once(self, call: str, status: int, content: Any = None) -> None:
        """Answer the next such call (`GET /path`) with this; more of them queue."""

        async def reply(_request: web.BaseRequest) -> web.StreamResponse:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            return web.Response(status=status, body=body if content is not None else None)

        self.special[call].append(reply)

    def count(self, call: str) -> int:
        """How often it was asked."""
        return self.seen.count(call)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request."""
        call = f"{request.method} {request.path}"
        body = await request.read()
        self.seen.append(call)
        self.headers.append(dict(request.headers))
        self.bodies.append(json.loads(body) if body else None)
        if self.special[call]:
            return await self.special[call].pop(0)(request)
        if call == f"POST {AUTH_REQUESTS}":
            return web.Response(text=f"token-{self.count(call)}")
        if request.headers.get("Upgrade") == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            self.sockets.append(socket)
            async for _ in socket:
                pass
            return socket
        if call == f"PUT {INVENTORY}":
            return web.Response()
        if call == f"POST {NEXT_V2}":
            return web.Response(status=404)
        if call in {f"POST {NEXT_V1}", f"GET {NEXT_V1}"} or call.endswith(("/status", "/log")):
            return web.Response(status=204)
        if call == "GET /artifact":
            return web.Response(body=ARTIFACT)
        return web.Response(status=404)


def credentials() -> Credentials:
    """Those of a device for plain HTTP, which has no use for a certificate."""
    return Credentials(ec.generate_private_key(ec.SECP256R1()), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def device_of(
    url: str,
    found: Credentials,
    *,
    identity: Attributes | None = None,
    style: Style = Style.GO,
    observe: Observer | None = None,
) -> SimulatedDevice:
    """A device of that API."""
    return SimulatedDevice(
        url, None, None, None, identity or {"mac": "m"}, credentials=lambda: found, style=style, observe=observe
    )

"""A device that a test controls to the byte, and whose answers it sees to the byte."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtls_ambassador.lab.auth_request import PrivateKey, auth_request
from tests.certificates import Holder
from tests.operated_lab import AUTH_REQUESTS
from tests.world import World, edge_settings, quiet_edge, write_settings_files

_NUMBERS = itertools.count(1)
_ATTRIBUTES = "/api/devices/v1/inventory/device/attributes"


@dataclass(frozen=True)
class Reply:
    """An answer, and the edge's log line on it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Lower-case names."""
    body: bytes
    log: str
    """The lines of the edge's log that bear this request's id."""

    def header(self, name: str) -> str | None:
        """A header's only value."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def token(self) -> str:
        """The device token of a 200."""
        assert self.status == 200, (self.status, self.body, self.log)
        return self.body.decode()

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and reason of an answer of the edge's own; fails on Mender's."""
        assert {"error", "reason", "request_id"} == self.json.keys()
        return self.status, self.json["reason"]

    @property
    def passed_on(self) -> tuple[int, str]:
        """Status and error text of an error that Mender gave; fails on one of the edge's own."""
        assert {"error", "request_id"} == self.json.keys()
        return self.status, self.json["error"]


class RawDevice:
    """A device with a certificate of the world's CA; each request on a connection of its own.

    Args:
        w: Where it lives.
        identity: By default a MAC that no other device of this world has.
        holder: Its certificate, by default a new one.
        auth_key: Signs auth requests, instead of the certificate's key.
        source: Its address, of loopback.
    """

    def __init__(
        self,
        w: World,
        identity: Mapping[str, Any] | None = None,
        *,
        holder: Holder | None = None,
        auth_key: PrivateKey | None = None,
        source: str = "127.0.0.1",
    ) -> None:
        number = next(_NUMBERS)
        self._world = w
        self.holder = holder or w.ca.device(f"device-{number}")
        self.identity = dict(identity or {"mac": f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"})
        self.auth_key = auth_key or self.holder.key
        self._source = source
        self._context = w.client_context(self.holder)

    def body(self, **more: Any) -> bytes:
        """The bytes of its auth request as the Go client writes them, with `more` fields if there are any."""
        body = auth_request(self.auth_key, self.identity).body
        return json.dumps(json.loads(body) | more).encode() + b"\n" if more else body

    async def authenticate(
        self,
        *,
        at: World | None = None,
        body: bytes | None = None,
        signature: str | None = None,
        chunked: bool = False,
        headers: str = "",
    ) -> Reply:
        """Send an auth request.

        Args:
            at: Another world's edge.
            body: These bytes, signed, instead of `self.body()`.
            signature: This, instead of the true one.
            chunked: Send it in two chunks, without a Content-Length.
            headers: Lines added to the head, each with CRLF.
        """
        request = auth_request(self.auth_key, self.identity, body=body, signature=signature)
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        content = request.body
        if chunked:
            lines += "Transfer-Encoding: chunked\r\n"
            parts = (content[:100], content[100:])
            content = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            lines += f"Content-Length: {len(content)}\r\n"
        return await self._send("POST", AUTH_REQUESTS, lines + headers, content, at or self._world)

    async def call(self, token: str, *, at: World | None = None) -> int:
        """Replace its inventory by nothing, and return the status: 200 if the token is good, else 401."""
        lines = f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        return (await self._send("PUT", _ATTRIBUTES, lines, b"[]", at or self._world)).status

    async def _send(self, method: str, path: str, lines: str, content: bytes, w: World) -> Reply:
        request_id = str(uuid.uuid4())
        if "x-men-requestid" not in lines.lower():
            lines += f"X-MEN-RequestID: {request_id}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: my-server.com\r\nConnection: close\r\n{lines}\r\n"
        answer = await w.raw(self._context, head.encode() + content, source=self._source)
        return _parse(answer, "\n".join(w.log_lines(request_id)))


def let_time_pass(w: World, seconds: float) -> None:
    """Set the clocks forward by which the edge leaves Mender in peace after a failure."""
    for management in w.edge._managements.values():
        for timed in (management, management.session):
            setattr(timed, "_clock", lambda: time.monotonic() + seconds)  # noqa: B010 - only some sessions have one


@contextlib.asynccontextmanager
async def another_edge(w: World, **options: object) -> AsyncIterator[World]:
    """The same world behind another edge, one that has admitted nobody yet; `options` are its settings."""
    directory = w.directory / f"edge-{next(_NUMBERS)}"
    files = write_settings_files(directory, w.ca, w.server)
    settings = edge_settings(directory, f"http://127.0.0.1:{w.relay.port}", files, **options)
    async with quiet_edge(settings, w.log) as edge:
        yield replace(w, edge=edge)


def _parse(answer: bytes, log: str) -> Reply:
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    if ("transfer-encoding", "chunked") in headers:
        body = _joined(body)
    return Reply(int(status_line.split()[1]), headers, body, log)


def _joined(chunks: bytes) -> bytes:
    body = b""
    while True:
        size, _, rest = chunks.partition(b"\r\n")
        if not (length := int(size, 16)):
            return body
        body += rest[:length]
        chunks = rest[length + 2 :]

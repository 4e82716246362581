"""One connection to the edge, byte by byte: what was sent, from which address, and what came back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Headers = Iterable[tuple[str, str]]

_SECONDS = 20.0


class IncompleteError(ValueError):
    """The end of an answer is missing."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, tuple[str, ...]]
    """Lower-case names, all values."""
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body, which is a JSON object and announced as JSON."""
        assert self.header("content-type").partition(";")[0] == "application/json", self
        content = json.loads(self.body)
        assert isinstance(content, dict)
        return content

    def header(self, name: str) -> str:
        """The only value of a header; empty if there is none."""
        values = self.headers.get(name, ())
        assert len(values) <= 1, f"{name}: {values}"
        return values[0] if values else ""


@dataclass(frozen=True)
class Attempt:
    """What became of a connection."""

    address: str
    """The client's own address and port, by which the edge's log knows it."""
    data: bytes
    """What came back."""
    error: OSError | None
    """How it ended, if not with a plain end; ssl.SSLError is one too."""

    @property
    def answers(self) -> list[Answer]:
        """The HTTP answers in `data`."""
        return parse_answers(self.data)

    @property
    def answer(self) -> Answer:
        """The only one."""
        assert self.answers, f"no answer: {self.error!r}"
        (only,) = self.answers
        return only


def request(
    method: str, target: str, headers: Headers = (), body: bytes = b"", *, host: str = "my-server.com"
) -> bytes:
    """An HTTP/1.1 request that closes its connection; Content-Length is added for a body unless `headers` tell it."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    if body and not names & {"content-length", "transfer-encoding"}:
        given.append(("Content-Length", str(len(body))))
    if "connection" not in names:
        given.append(("Connection", "close"))
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in given)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks (RFC 9112 section 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@dataclass(frozen=True)
class SeenRequest:
    """A request as a server got it."""

    method: str
    target: str
    headers: Mapping[str, tuple[str, ...]]
    """Lower-case names, all values."""
    body: bytes
    whole: bool
    """Whether all of the body has come."""


def parse_requests(data: bytes) -> list[SeenRequest]:
    """The HTTP/1.1 requests in what a server got, read as strictly as RFC 9112 allows.

    Raises:
        AssertionError: something in it could be read in two ways.
    """
    seen = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"a head without end: {head!r}"
        request_line, *lines = head.decode("latin-1").split("\r\n")
        parts = request_line.split(" ")
        assert len(parts) == 3, request_line
        assert parts[2] == "HTTP/1.1", request_line
        headers: dict[str, tuple[str, ...]] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, line
            assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), line
            assert not re.search(r"[\0-\x08\x0a-\x1f\x7f]", value), line
            headers[name.lower()] = (*headers.get(name.lower(), ()), value.strip())
        framing = [*headers.get("content-length", ()), *headers.get("transfer-encoding", ())]
        assert len(framing) <= 1, headers
        assert len(headers["host"]) == 1, headers
        rest, whole = data, True
        try:
            body, data = _body(200, headers if framing else {"content-length": ("0",)}, rest)
        except IncompleteError:
            body, data, whole = rest, b"", False
        seen.append(SeenRequest(parts[0], parts[1], headers, body, whole))
    return seen


async def attempt(
    port: int,
    data: bytes,
    context: ssl.SSLContext | None,
    *,
    answers: int | None = 1,
    host: str = "my-server.com",
    to: str = "127.0.0.1",
) -> Attempt:
    """Connect, send `data`, and collect what comes back until `answers` have come, or until the end.

    Args:
        port: The edge's.
        data: Bytes to send after the handshake.
        context: None: plain TCP.
        answers: How many to wait for; None: until the edge closes the connection, for which Envoy takes a second.
        host: The name for SNI, and in the server's certificate.
        to: The edge's address, IPv4 or IPv6.

    Raises:
        TimeoutError: neither came in 20 seconds.
    """
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    connection = socket.socket(family, proto=socket.IPPROTO_TCP)  # said so, asyncio sets TCP_NODELAY
    connection.setblocking(False)
    answer = b""
    error: OSError | None = None
    writer: asyncio.StreamWriter | None = None
    async with asyncio.timeout(_SECONDS):
        await asyncio.get_running_loop().sock_connect(connection, (to, port))
        own, own_port, *_ = connection.getsockname()
        address = f"[{own}]:{own_port}" if ":" in own else f"{own}:{own_port}"
        try:
            reader, writer = await asyncio.open_connection(
                sock=connection, ssl=context, server_hostname=host if context else None
            )
            writer.write(data)
            while chunk := await reader.read(65536):
                answer += chunk
                if answers is not None and _complete(answer, answers):
                    break
        except OSError as reason:
            error = reason
        finally:
            if writer is not None:
                writer.transport.abort()  # its answer is here; an orderly end would wait for Envoy's, a second
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            connection.close()
    return Attempt(address, answer, error)


def parse_answers(data: bytes) -> list[Answer]:
    """The HTTP/1.1 answers, one after the other, in what a connection gave back; 1xx are left out.

    Raises:
        IncompleteError: the last one is cut off.
    """
    answers = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        if not end:
            raise IncompleteError(head)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = int(status_line.split(" ")[1])
        headers: dict[str, tuple[str, ...]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = (*headers.get(name.lower(), ()), value.strip())
        if status >= 200:
            body, data = _body(status, headers, data)
            answers.append(Answer(status, headers, body))
    return answers


def lines_about(log: str, address: str) -> list[str]:
    """The lines of a log that name this client's address and port."""
    return [line for line in log.splitlines() if re.search(rf"{re.escape(address)}(?!\d)", line)]


def log_field(line: str, name: str) -> str | None:
    """The value of a field of a log line, without quotes; None if it is not there."""
    found = re.search(rf" {name}=('[^']*'|\S+)", line)
    return found[1].strip("'") if found else None


def _complete(data: bytes, count: int) -> bool:
    if not data.startswith(b"HTTP/"):
        return False
    try:
        return len(parse_answers(data)) >= count
    except IncompleteError:
        return False


def _body(status: int, headers: Mapping[str, tuple[str, ...]], data: bytes) -> tuple[bytes, bytes]:
    """The body, and what follows it (RFC 9112 section 6.3)."""
    if status in (204, 304):
        return b"", data
    if headers.get("transfer-encoding") != ("chunked",):
        length = int(headers.get("content-length", (str(len(data)),))[0])
        if len(data) < length:
            raise IncompleteError(data)
        return data[:length], data[length:]
    body = b""
    while True:
        size, end, data = data.partition(b"\r\n")
        if not end or len(data) < int(size, 16) + 2:
            raise IncompleteError(data)
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body, data

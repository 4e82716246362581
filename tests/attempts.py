"""One connection to the edge, byte by byte: what was sent, from which address, and what came back."""

from __future__ import annotations

import asyncio
import contextlib
import json
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


async def attempt(
    port: int,
    data: bytes,
    context: ssl.SSLContext | None,
    *,
    answers: int | None = 1,
    host: str = "my-server.com",
) -> Attempt:
    """Connect, send `data`, and collect what comes back until `answers` have come, or until the end.

    Args:
        port: The edge's, on 127.0.0.1.
        data: Bytes to send after the handshake.
        context: None: plain TCP.
        answers: How many to wait for; None: until the edge closes the connection, for which Envoy takes a second.
        host: The name for SNI, and in the server's certificate.

    Raises:
        TimeoutError: neither came in 20 seconds.
    """
    connection = socket.socket()
    connection.setblocking(False)
    answer = b""
    error: OSError | None = None
    writer: asyncio.StreamWriter | None = None
    async with asyncio.timeout(_SECONDS):
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        address = "{}:{}".format(*connection.getsockname())
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
                writer.close()
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

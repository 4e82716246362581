"""One connection to the edge, byte by byte: what was sent, from which address, and what came back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Headers = Iterable[tuple[str, str]]

_SECONDS = 20.0


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
    until: Callable[[bytes], bool] | None = None,
    host: str = "my-server.com",
) -> Attempt:
    """Connect, send `data`, and collect what comes back until the end, or until `until` is content with it.

    Args:
        port: The edge's, on 127.0.0.1.
        data: Bytes to send after the handshake.
        context: None: plain TCP.
        until: Looks at everything so far.
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
                if until is not None and until(answer):
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
    """The HTTP/1.1 answers, one after the other, in what a connection gave back; 1xx are left out."""
    answers = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"the head of an answer is cut off: {head!r}"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = int(status_line.split(" ")[1])
        headers: dict[str, tuple[str, ...]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = (*headers.get(name.lower(), ()), value.strip())
        if status < 200:
            continue
        body, data = _body(headers, data)
        answers.append(Answer(status, headers, body))
    return answers


def _body(headers: Mapping[str, tuple[str, ...]], data: bytes) -> tuple[bytes, bytes]:
    if headers.get("transfer-encoding") == ("chunked",):
        body = b""
        while True:
            size, _, data = data.partition(b"\r\n")
            length = int(size, 16)
            body, data = body + data[:length], data[length + 2 :]
            if length == 0:
                return body, data
    length = int(headers.get("content-length", (str(len(data)),))[0])
    assert len(data) >= length, "the body of an answer is cut off"
    return data[:length], data[length:]

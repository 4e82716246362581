"""A client that does a known number of operations, over several connections at the same time.

Python's TLS is slow, and that does no harm: what is compared is the processor time of the server per operation.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.material import NAME
from mtls_ambassador.tokens.base64url import encode

CONNECTIONS = 4
BODY = b'{"status":"ok"}'
_CLAIMS = encode(b'{"exp":4102444800,"":"' + b"x" * 426 + b'"}')
TOKEN = f"eyJhbGciOiJSUzI1NiJ9.{_CLAIMS}.{'y' * 342}"  # as long as Mender's
_POLL = "/api/devices/v1/deployments/device/deployments/next"
DOWNLOAD = "/api/devices/v1/deployments/device/download"


class LoadError(Exception):
    """A peer did not answer as it should; figures about it would mean nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask, and as whom."""

    port: int
    context: ssl.SSLContext
    new_token: Callable[[], str] = lambda: TOKEN
    """Gives a token; each of an edge that binds tokens is another one, which nobody has verified yet."""

    def connect(self) -> ssl.SSLSocket:
        """A new connection, with a full handshake."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(plain, server_hostname=NAME)


def request(path: str, token: str = TOKEN) -> bytes:
    """A request as a device polls."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {NAME}",
        "User-Agent: Go-http-client/1.1",
        f"Authorization: Bearer {token}",
        "Accept-Encoding: gzip",
    )
    return "\r\n".join((*lines, "", "")).encode()


_CIPHER = re.compile("^(ECDHE-.*-AES128-GCM-SHA256|TLS_AES_256_GCM_SHA384)$")


def new_connections(target: Target, count: int) -> None:
    """`count` times: connect, one request, close."""

    def once() -> None:
        with target.connect() as connection:
            _ask(connection, request(_POLL, target.new_token()))

    _shared(count, lambda share: _repeat(once, share))


def keep_alive(connections: Sequence[ssl.SSLSocket], token: str, count: int) -> None:
    """`count` requests over connections that are open."""
    data = request(_POLL, token)

    def ask(connection: ssl.SSLSocket) -> None:
        _repeat(lambda: _ask(connection, data), count // len(connections))

    with ThreadPoolExecutor(len(connections)) as pool:
        list(pool.map(ask, connections))


def download(connection: ssl.SSLSocket, token: str, size: int) -> None:
    """One large file over an open connection."""
    connection.sendall(request(DOWNLOAD, token))
    buffer = memoryview(bytearray(1 << 18))
    head = b""
    while b"\r\n\r\n" not in head:
        head += _some(connection)
    status, _, rest = head.partition(b"\r\n\r\n")
    if b" 200 " not in status.split(b"\r\n")[0]:
        raise LoadError(status.decode())
    got = len(rest)
    while got < size:
        received = connection.recv_into(buffer)
        if not received:
            raise LoadError(f"the download ended after {got} bytes")
        got += received


@contextlib.contextmanager
def idle(target: Target, count: int) -> Iterator[list[ssl.SSLSocket]]:
    """`count` connections that have asked once and stay open."""
    data = request(_POLL, target.new_token())
    connections: list[ssl.SSLSocket] = []
    lock = threading.Lock()

    def once() -> None:
        connection = target.connect()
        with lock:
            connections.append(connection)
        _ask(connection, data)

    try:
        _shared(count, lambda share: _repeat(once, share))
        yield connections
    finally:
        for connection in connections:
            connection.close()


def exchange(connection: ssl.SSLSocket, data: bytes) -> None:
    """Send a request and read an answer with a Content-Length.

    Raises:
        LoadError: the answer is not 200.
    """
    connection.sendall(data)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _some(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise LoadError(answer.decode(errors="replace"))
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0]) - len(body)
    while missing > 0:
        missing -= len(_some(connection))


def require_same_work(target: Target) -> None:
    """Look whether a peer does what is compared.

    Raises:
        LoadError: it resumes a TLS session that it is offered, or chose another cipher.
    """
    data = request(_POLL, target.new_token())
    with target.connect() as first:
        _ask(first, data)
        session, cipher = first.session, first.cipher()
    if cipher is None or not _CIPHER.search(cipher[0]):
        raise LoadError(f"the cipher is {cipher}")
    plain = socket.create_connection(("127.0.0.1", target.port), timeout=30)
    with target.context.wrap_socket(plain, server_hostname=NAME, session=session) as second:
        _ask(second, data)
        if second.session_reused:
            raise LoadError("the session was resumed")


def _ask(connection: ssl.SSLSocket, data: bytes) -> None:
    connection.sendall(data)
    answer = _some(connection)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise LoadError(answer.decode(errors="replace"))
    while not answer.endswith(BODY):
        answer += _some(connection)


def _some(connection: ssl.SSLSocket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise LoadError("the peer closed the connection")
    return received


def _repeat(operation: Callable[[], None], count: int) -> None:
    for _ in range(count):
        operation()


def _shared(count: int, work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(work, [count // CONNECTIONS] * CONNECTIONS))

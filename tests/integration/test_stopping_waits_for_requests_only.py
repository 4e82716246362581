"""SIGTERM: requests are waited for, connections that are merely open are not; nothing is half answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tests.certificates import CertificateAuthority
from tests.edge_process import EdgeProcess
from tests.world import edge_environment, eventually, write_settings_files

GRACE = 60
"""Seconds; far more than a stop may take here, however busy the machine is."""
POLLING, IDLE = 150, 150
QUICK, HELD, LARGE = (f"/api/devices/v1/deployments/{name}" for name in ("quick", "held", "large"))
LARGE_BODY = bytes(range(256)) * 500
"""More than the kernel takes of it in SEGMENTS, and little enough for Envoy to take all the rest."""
SEGMENTS = 1000
"""Bytes in a packet, as on a real network; in loopback's own size the kernel takes megabytes at once."""


@dataclass
class Upstream:
    """Answers at once, but for HELD when it is told to."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
                self.asked[target] += 1
                if target == HELD:
                    await self.go.wait()
                body = LARGE_BODY if target == LARGE else b"whole"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
                self.answered[target] += 1


@dataclass
class Scene:
    edge: EdgeProcess
    upstream: Upstream
    tls: ssl.SSLContext

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A TCP connection, TLS to come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.edge.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def secured(self, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(self.tls, server_hostname="my-server.com")

    async def stop(self) -> None:
        """Tell the edge to stop, and wait until it accepts nobody any more."""
        self.edge.process.send_signal(signal.SIGTERM)
        await self.edge.line("stopping: no new connections")
        while True:
            try:
                async with self.connection():
                    pass
            except ConnectionRefusedError:
                return

    async def stopped(self) -> None:
        """Wait for its end, which is not that of the grace."""
        async with asyncio.timeout(GRACE * 0.75):
            assert await self.edge.process.wait() == 0
        assert "not finished within shutdown_grace" not in self.edge.log_text()


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    ca = CertificateAuthority()
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    certificate, key = ca.device("device").write(tmp_path, "device")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(tmp_path / "ca.pem")
    tls.load_cert_chain(certificate, key)
    upstream = Upstream()
    async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0) as server:
        backend = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        environment = edge_environment(tmp_path, backend, files, shutdown_grace=f"{GRACE}s")
        async with EdgeProcess(environment, directory=tmp_path) as edge:
            yield Scene(edge, upstream, tls)
        upstream.go.set()


def request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: my-server.com\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head, in lower case, and body.

    Raises:
        IncompleteReadError: it is not whole.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    try:
        return head, await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise asyncio.IncompleteReadError(head + error.partial, None) from error


async def device(scene: Scene, counts: Counter[str], *, polls: bool) -> None:
    """As the Go client: one connection, kept alive, until the edge closes it."""
    async with scene.connection() as (reader, writer):
        await scene.secured(writer)
        head = b""
        while b"connection: close" not in head:
            try:
                writer.write(request(QUICK))
                head, body = await answer(reader)
            except ConnectionError:
                counts["closed before the answer"] += 1
                return
            except asyncio.IncompleteReadError as error:
                counts["half answered" if error.partial else "closed before the answer"] += 1
                return
            counts["answered" if body == b"whole" else "odd"] += 1
            try:
                async with asyncio.timeout(random.uniform(0.5, 2) if polls else None):
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read(1) == b""
                    counts["closed while idle"] += 1
                    return
            except TimeoutError:
                pass


async def test_idle_connections_are_not_waited_for(scene: Scene) -> None:
    """Of those that poll, a few may send the next request just when the last connections are closed.

    It got no byte of an answer then, as RFC 9112 section 9.5 tells clients to expect of a connection that was idle.
    """
    counts: Counter[str] = Counter()
    devices = [asyncio.create_task(device(scene, counts, polls=number < POLLING)) for number in range(POLLING + IDLE)]
    await eventually(lambda: counts["answered"] >= 2 * POLLING + IDLE, GRACE)
    assert set(counts) == {"answered"}

    scene.edge.process.send_signal(signal.SIGTERM)
    await scene.stopped()
    await asyncio.gather(*devices)
    assert set(counts) <= {"answered", "closed while idle", "closed before the answer"}, counts
    assert counts["closed while idle"] >= IDLE
    assert counts["closed before the answer"] < POLLING / 10, counts


async def test_a_request_in_progress_is_waited_for(scene: Scene) -> None:
    async with scene.connection() as (reader, writer), scene.connection() as (idle, other):
        await scene.secured(other)
        other.write(request(QUICK))
        assert (await answer(idle))[1] == b"whole"
        await scene.secured(writer)
        writer.write(request(HELD))
        await eventually(lambda: scene.upstream.asked[HELD])

        await scene.stop()
        other.write(request(QUICK))  # on a connection that was made before
        head, body = await answer(idle)
        assert body == b"whole"
        assert b"connection: close" in head

        scene.upstream.go.set()
        head, body = await answer(reader)
        assert body == b"whole"
        assert b"connection: close" in head
        await scene.stopped()


async def test_a_handshake_in_progress_is_waited_for_and_its_request(scene: Scene) -> None:
    async with scene.connection() as (reader, writer):
        await scene.stop()
        await scene.secured(writer)
        writer.write(request(QUICK))
        assert (await answer(reader))[1] == b"whole"
        await scene.stopped()


async def test_the_end_of_an_answer_that_is_fetched_slowly_is_waited_for(scene: Scene) -> None:
    """All of it is sent as far as requests are concerned, and the rest of it is with Envoy."""

    def ask() -> ssl.SSLSocket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENTS)
        # For an address that it served well before, the kernel takes more at once than this answer.
        client.bind((f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}", 0))
        client.connect(("127.0.0.1", scene.edge.port))
        secured = scene.tls.wrap_socket(client, server_hostname="my-server.com")
        secured.sendall(request(LARGE))
        return secured

    def fetch() -> bytes:
        with client.makefile("rb") as file:
            while file.readline() != b"\r\n":
                pass
            return file.read(len(LARGE_BODY))

    with await asyncio.to_thread(ask) as client:
        await eventually(lambda: scene.upstream.answered[LARGE])
        await scene.stop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await scene.edge.process.wait()
        assert await asyncio.to_thread(fetch) == LARGE_BODY
    await scene.stopped()


async def test_no_connection_is_reset_in_the_kernels_queue(scene: Scene) -> None:
    opened: list[socket.socket] = []

    def open_one_after_another() -> None:
        while len(opened) < 600:
            client = socket.socket()
            try:
                client.connect(("127.0.0.1", scene.edge.port))
            except ConnectionRefusedError:
                client.close()
                return
            client.setblocking(False)
            opened.append(client)

    opening = asyncio.create_task(asyncio.to_thread(open_one_after_another))
    try:
        await eventually(lambda: len(opened) > 100)
        await scene.stop()
        await opening
        for client in opened:
            with pytest.raises(BlockingIOError):  # open, and silent
                client.recv(1)
    finally:
        await opening
        for client in opened:
            client.close()
    await scene.stopped()

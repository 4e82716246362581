"""A gigabyte each way in flat memory, an answer that takes two minutes, and the framing of bodies as it was."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.attempts import attempt, chunked, request
from tests.memory import watched
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

GIGABYTE = 10**9
BLOCK = bytes(range(256)) * 4096  # 1 MiB
LONG = 120.0
"""Seconds that an answer may take."""

LARGE, SLOW, PAUSING, PART, CHUNKED = (
    f"/api/devices/v1/deployments/{name}" for name in ("large", "slow", "pausing", "part", "chunked")
)


@dataclass
class Upstream:
    """As little of a server as can be, so that it is quick; `heads` are those it got, in lower case."""

    heads: list[bytes]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                self.heads.append(head)
                await self._answer(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the edge has closed the connection
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = head.split(b" ")[1].decode()
        if head.startswith(b"put "):
            length = await _length_of_chunked(reader)
            writer.write(_with_length(str(length).encode()))
        elif target == LARGE:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
            for start in range(0, GIGABYTE, len(BLOCK)):
                writer.write(BLOCK[: GIGABYTE - start])
                await writer.drain()
        elif target == SLOW:
            await asyncio.sleep(LONG)
            writer.write(_with_length(b"at last"))
        elif target == PAUSING:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            await asyncio.sleep(LONG)
            writer.write(b"after")
        elif target == PART:
            writer.write(
                b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/100\r\nAccept-Ranges: bytes\r\n"
                b"Content-Length: 5\r\n\r\n56789"
            )
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two"))
        await writer.drain()


def _with_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def _length_of_chunked(reader: asyncio.StreamReader) -> int:
    total = 0
    while size := int(await reader.readline(), 16):
        left = size
        while left:
            part = await reader.read(left)
            assert part, "the body was cut"
            left -= len(part)
        total += size
        await reader.readexactly(2)
    await reader.readexactly(2)
    return total


@dataclass
class Scene:
    w: World
    upstream: Upstream

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A device's connection to the edge."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.w.edge.port,
            ssl=self.w.client_context(self.w.ca.device("device")),
            server_hostname="my-server.com",
            limit=1 << 20,
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    upstream = Upstream([])
    async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20) as server:
        port = server.sockets[0].getsockname()[1]
        async with world(tmp_path_factory.mktemp("world"), mender_backend=f"http://127.0.0.1:{port}") as w:
            yield Scene(w, upstream)


async def _download(scene: Scene) -> float:
    began = time.monotonic()
    async with scene.connection() as (reader, writer):
        writer.write(request("GET", LARGE))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"content-length: %d\r\n" % GIGABYTE in head
        assert b"transfer-encoding" not in head
        got = 0
        while got < GIGABYTE:
            part = await reader.read(1 << 20)
            assert part, f"cut after {got} bytes"
            got += len(part)
    return time.monotonic() - began


async def _upload(scene: Scene) -> float:
    began = time.monotonic()
    async with scene.connection() as (reader, writer):
        writer.write(request("PUT", LARGE, [("Transfer-Encoding", "chunked")]))
        for start in range(0, GIGABYTE, len(BLOCK)):
            block = BLOCK[: GIGABYTE - start]
            writer.write(b"%x\r\n" % len(block))
            writer.write(block)
            writer.write(b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(len(str(GIGABYTE))) == str(GIGABYTE).encode()
    return time.monotonic() - began


async def _long(scene: Scene, target: str, body: bytes) -> None:
    began = time.monotonic()
    async with scene.connection() as (reader, writer):
        writer.write(request("GET", target))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(len(body)) == body
    assert time.monotonic() - began >= LONG


@pytest.mark.timeout(240)
async def test_large_bodies_and_long_answers(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """All at once, since waiting costs nothing."""
    pid = scene.w.edge.envoy_pid
    assert pid is not None
    async with asyncio.TaskGroup() as group:
        group.create_task(_long(scene, SLOW, b"at last"))
        group.create_task(_long(scene, PAUSING, b"firstafter"))
        async with watched(pid) as memory:
            down, up = await asyncio.gather(_download(scene), _upload(scene))
    (uploaded,) = [head for head in scene.upstream.heads if head.startswith(b"put ")]
    assert b"\r\ntransfer-encoding: chunked\r\n" in uploaded
    assert b"\r\ncontent-length:" not in uploaded
    with capsys.disabled():
        print(  # noqa: T201
            f"\n1 GB down in {down:.1f} s and up in {up:.1f} s at the same time: Envoy had "
            f"{memory.before / 2**20:.0f} MiB before, {memory.most / 2**20:.0f} MiB at most"
        )
    assert memory.growth < 64 * 2**20


async def test_a_range_passes(scene: Scene) -> None:
    headers = [("Range", "bytes=5-9"), ("If-Range", '"etag"')]
    tried = await attempt(
        scene.w.edge.port, request("GET", PART, headers), scene.w.client_context(scene.w.ca.device("device"))
    )
    assert tried.answer.status == 206
    assert tried.answer.header("content-range") == "bytes 5-9/100"
    assert tried.answer.header("accept-ranges") == "bytes"
    assert tried.answer.header("content-length") == "5"
    assert tried.answer.body == b"56789"
    (head,) = [head for head in scene.upstream.heads if PART.encode() in head]
    assert b"\r\nrange: bytes=5-9\r\n" in head
    assert b'\r\nif-range: "etag"\r\n' in head


async def test_what_is_chunked_stays_chunked(scene: Scene) -> None:
    tried = await attempt(
        scene.w.edge.port, request("GET", CHUNKED), scene.w.client_context(scene.w.ca.device("device"))
    )
    assert tried.answer.header("transfer-encoding") == "chunked"
    assert "content-length" not in tried.answer.headers
    assert tried.answer.body == b"onetwo"
    assert re.search(rb"\r\n[0-9a-f]+\r\n", tried.data)

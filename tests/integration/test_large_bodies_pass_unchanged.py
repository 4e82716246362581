"""Bodies of any size pass in both directions byte for byte, without ever being held as a whole."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.attempts import Headers, attempt, chunked, request
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = random.Random(1).randbytes(5_000_000)
TARGET = "/api/devices/v1/deployments/download"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """An edge before a server that has large bodies, which Mender's API has not."""

    async def digest(request: web.Request) -> web.Response:
        content = hashlib.sha256()
        async for chunk in request.content.iter_any():
            content.update(chunk)
        return web.json_response(
            {
                "sha256": content.hexdigest(),
                "length": request.headers.get("Content-Length"),
                "coding": request.headers.get("Transfer-Encoding"),
            }
        )

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=LARGE, headers={"ETag": '"x"', "Content-Type": "application/vnd.mender-artifact"})

    async def large_in_chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(LARGE), 100_000):
            await response.write(LARGE[start : start + 100_000])
        await response.write_eof()
        return response

    app = web.Application()
    app.add_routes([web.put(TARGET, digest), web.get(TARGET, large), web.get(f"{TARGET}/chunked", large_in_chunks)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with world(tmp_path_factory.mktemp("world"), mender_backend=f"http://127.0.0.1:{port}") as running:
            yield running
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_upload(w: World, framing: str) -> None:
    headers: Headers = [("Content-Type", "application/octet-stream")]
    body = LARGE
    if framing == "chunked":
        headers = [*headers, ("Transfer-Encoding", "chunked")]
        body = chunked(*(LARGE[start : start + 10_007] for start in range(0, len(LARGE), 10_007)))
    tried = await attempt(w.edge.port, request("PUT", TARGET, headers, body), w.client_context(w.ca.device("dev-1")))
    assert tried.answer.json() == {
        "sha256": hashlib.sha256(LARGE).hexdigest(),
        "length": None if framing == "chunked" else str(len(LARGE)),
        "coding": "chunked" if framing == "chunked" else None,
    }


async def test_upload_that_waits_for_100(w: World) -> None:
    data = request("PUT", TARGET, [("Expect", "100-continue"), ("Content-Length", str(len(LARGE)))])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", w.edge.port, ssl=w.client_context(w.ca.device("dev-1")), server_hostname="my-server.com"
    )
    try:
        writer.write(data)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(LARGE)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert hashlib.sha256(LARGE).hexdigest().encode() in await reader.read()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_download(w: World, framing: str) -> None:
    target = TARGET if framing == "Content-Length" else f"{TARGET}/chunked"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", w.edge.port, ssl=w.client_context(w.ca.device("dev-1")), server_hostname="my-server.com"
    )
    try:
        writer.write(request("GET", target))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if framing == "Content-Length":
            assert f"content-length: {len(LARGE)}\r\n".encode() in head
            assert b'etag: "x"\r\n' in head
            assert b"content-type: application/vnd.mender-artifact\r\n" in head
            assert await reader.readexactly(len(LARGE)) == LARGE
        else:
            assert b"transfer-encoding: chunked\r\n" in head
            content = bytearray()
            while length := int(await reader.readline(), 16):
                content += (await reader.readexactly(length + 2))[:length]
            assert content == LARGE
    finally:
        writer.transport.abort()

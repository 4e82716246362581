"""Devices speak HTTP/1.0 or 1.1 and keep connections open; HTTP/2 is neither offered nor understood."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from tests.attempts import attempt, parse_answers, request
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
KEEP = [("Connection", "keep-alive")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.mark.parametrize("version", VERSIONS)
async def test_many_requests_on_one_connection(w: World, version: ssl.TLSVersion) -> None:
    """Of all kinds: answered by Envoy, by the admission service, by Mender, and refused."""
    holder = w.ca.device("dev-1")
    signed = auth_request(holder.key, {"mac": f"keep {version}"})
    asked = [
        (request("GET", "/status", KEEP), 200),
        (request("POST", AUTH_REQUESTS, [*signed.headers.items(), *KEEP], signed.body), 200),
        (request("GET", INVENTORY, KEEP), 401),
        (request("GET", "/api/management/", KEEP), 404),
        (request("POST", AUTH_REQUESTS, [*signed.headers.items(), *KEEP], signed.body), 200),
        (request("POST", AUTH_REQUESTS, KEEP, b"{}"), 400),
        (request("PUT", INVENTORY, KEEP, b"[]"), 401),
        (request("GET", "/status", KEEP), 200),
        (request("GET", "/status"), 200),
    ]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", w.edge.port, ssl=w.client_context(holder, version=version), server_hostname="my-server.com"
    )
    try:
        for data, status in asked:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            (_, length) = next(
                line.split(b":") for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
            )
            (answer,) = parse_answers(head + await reader.readexactly(int(length)))
            assert answer.status == status
        assert await reader.read() == b""
    finally:
        writer.transport.abort()


async def test_requests_sent_ahead(w: World) -> None:
    """Pipelining: answers come in order."""
    data = b"".join(request("GET", f"{INVENTORY}?{number}", KEEP) for number in range(9)) + request("GET", "/nothing")
    before = len(w.relay.requests())
    tried = await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")), answers=10)
    assert [answer.status for answer in tried.answers] == [401] * 9 + [404]
    assert w.relay.requests()[before:] == [("GET", f"{INVENTORY}?{number}") for number in range(9)]


async def test_http_1_0(w: World) -> None:
    device = w.client_context(w.ca.device("dev-1"))
    tried = await attempt(w.edge.port, f"GET {INVENTORY} HTTP/1.0\r\n\r\n".encode(), device)
    assert tried.answer.status == 401
    assert tried.data.startswith(b"HTTP/1.0 ")
    assert tried.answer.header("connection") == "close"
    assert "transfer-encoding" not in tried.answer.headers


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2"], None), (["h2", "http/1.1"], "http/1.1"), (["http/1.1", "h2"], "http/1.1"), (["http/1.1"], "http/1.1")],
)
async def test_http_2_is_not_chosen(w: World, version: ssl.TLSVersion, offered: list[str], chosen: str | None) -> None:
    context = w.client_context(w.ca.device("dev-1"), version=version)
    context.set_alpn_protocols(offered)
    _, writer = await asyncio.open_connection("127.0.0.1", w.edge.port, ssl=context, server_hostname="my-server.com")
    tls = writer.get_extra_info("ssl_object")
    assert tls.selected_alpn_protocol() == chosen
    writer.transport.abort()
    assert (await attempt(w.edge.port, request("GET", "/status"), context)).answer.status == 200


async def test_http_2_is_not_understood(w: World) -> None:
    before = len(w.relay.seen)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    context = w.client_context(w.ca.device("dev-1"))
    context.set_alpn_protocols(["h2"])
    tried = await attempt(w.edge.port, preface, context)
    assert tried.data == b"" or tried.answer.status in (400, 426, 505)
    assert len(w.relay.seen) == before

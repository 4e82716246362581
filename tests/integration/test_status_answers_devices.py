"""`GET /status` on the devices' port answers whoever has a device's certificate, and nobody else; Mender is not asked.

It is the check of the set-up in Mender's own document: `openssl s_client`, then `GET /status HTTP/1.0`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attempts import attempt, request
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/status"),
        request("GET", "/status?x=y"),
        request("GET", "/status", host="evil.example"),
        b"GET /status HTTP/1.0\r\n\r\n",
    ],
)
async def test_status(w: World, data: bytes, version: ssl.TLSVersion) -> None:
    tried = await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1"), version=version))
    assert tried.answer.status == 200
    assert tried.answer.header("content-type") == "application/json"
    assert tried.answer.json() == {"status": "ok"}
    assert w.relay.device_requests() == []


async def test_without_a_certificate(w: World) -> None:
    assert (await attempt(w.edge.port, request("GET", "/status"), w.client_context(None))).data == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(w: World, method: str) -> None:
    tried = await attempt(w.edge.port, request(method, "/status"), w.client_context(w.ca.device("dev-1")))
    assert tried.answer.status == 404
    assert w.relay.device_requests() == []

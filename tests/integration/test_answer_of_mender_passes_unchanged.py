"""The device gets what Mender answers to its auth request: status, body and headers, to the byte."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.operated_lab import AUTH_REQUESTS, OperatedLab, RawAnswer, answering
from tests.raw_device import RawDevice
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = (b"content-type", b"application/json; charset=utf-8")
OWN = {"date", "connection", "content-length", "transfer-encoding", "x-men-requestid"}
"""Headers of the connection to the device, not of Mender's answer."""


@dataclass
class Scene:
    w: World
    mender: OperatedLab


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w:
        yield Scene(w, mender)


ANSWERS = [
    pytest.param(RawAnswer(200, b"a.b.c", ((b"content-type", b"application/jwt"),)), id="token"),
    pytest.param(RawAnswer(200, b'"a.b.c"\n', ((b"content-type", b"application/json"),)), id="token as JSON"),
    pytest.param(RawAnswer(200, b"\x00\xff\r\n\r\n", ((b"content-type", b"x/y"),)), id="binary"),
    pytest.param(
        RawAnswer(200, gzip.compress(b"token", mtime=0), (JSON, (b"content-encoding", b"gzip"))), id="compressed"
    ),
    pytest.param(
        RawAnswer(
            200,
            b"t",
            (
                (b"x-of-tomorrow", b"1"),
                (b"x-of-tomorrow", b"2"),
                (b"set-cookie", b"a=1; Path=/"),
                (b"set-cookie", b"b=2"),
                (b"server", b"mender"),
                (b"www-authenticate", b'Bearer realm="ManagementJWT"'),
                (b"x-edge-of-the-world", b"Mender's own"),
            ),
        ),
        id="headers",
    ),
    pytest.param(RawAnswer(200, b"t", ((b"x-where", "Zürich €".encode()), (b"x-raw", b"\xff\xfe"))), id="not ASCII"),
    pytest.param(RawAnswer(200, b"t" * 200_000, ((b"content-type", b"application/jwt"),)), id="large"),
    pytest.param(RawAnswer(200), id="empty"),
    pytest.param(RawAnswer(302, b"", ((b"location", b"https://elsewhere/"),)), id="redirect"),
    pytest.param(RawAnswer(400, b'{"error":"invalid auth request","request_id":"1"}', (JSON,)), id="400"),
    pytest.param(RawAnswer(402, b"pay", ((b"content-type", b"text/plain"),)), id="402"),
    pytest.param(RawAnswer(404, b"<html>", ((b"content-type", b"text/html"),)), id="404"),
    pytest.param(RawAnswer(429, b"slow", ((b"retry-after", b"17"), (b"content-type", b"text/plain"))), id="429"),
    pytest.param(RawAnswer(500, b'{"error":"internal error","request_id":"1"}', (JSON,)), id="500"),
    pytest.param(RawAnswer(502, b"<html>bad gateway</html>", ((b"content-type", b"text/html"),)), id="502"),
    pytest.param(RawAnswer(503, b"", ((b"retry-after", b"60"),)), id="503"),
    pytest.param(RawAnswer(504, b"?", ()), id="504, no content type"),
]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_answer_passes_unchanged(scene: Scene, answer: RawAnswer) -> None:
    known, fresh = RawDevice(scene.w), RawDevice(scene.w)
    await known.authenticate()
    scene.mender.script = answering(answer, "POST", AUTH_REQUESTS)
    try:
        for device in (known, fresh):
            reply = await device.authenticate()
            assert reply.status == answer.status
            assert reply.body == answer.body
            given = sorted((name.decode(), value.decode("latin-1")) for name, value in answer.headers)
            assert sorted(header for header in reply.headers if header[0] not in OWN) == given
    finally:
        scene.mender.script = None


@pytest.mark.parametrize("status", [400, 429, 500, 502, 503])
async def test_after_any_error_the_ledger_still_knows_the_device(scene: Scene, status: int) -> None:
    device = RawDevice(scene.w)
    await device.authenticate()
    scene.mender.script = answering(RawAnswer(status, b"{}"), "POST", AUTH_REQUESTS)
    scene.mender.seen.clear()
    reply = await device.authenticate()
    assert (reply.status, reply.body) == (status, b"{}")
    assert f"Mender answered {status} to the auth request" in reply.log
    assert scene.mender.admission_calls() == [], "it was known until now"

    scene.mender.script = None
    assert (await device.authenticate()).status == 200
    assert (await device.authenticate()).status == 200
    assert scene.mender.admission_calls() == []


async def test_refusal_that_the_edge_understands_is_mender_s_own_too(scene: Scene) -> None:
    """Where there is no reason to say anything else: the device limit, for instance."""
    scene.mender.set_max_devices(0)
    scene.mender.seen.clear()
    try:
        reply = await RawDevice(scene.w).authenticate()
        assert reply.passed_on == (401, "unauthorized")
        assert reply.header("content-type") == "application/json; charset=utf-8"
        assert reply.json["request_id"] == reply.header("x-men-requestid")
    finally:
        scene.mender.set_max_devices(None)

"""Answers of the management API that are not in its form admit nobody; the edge asks for patience and goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.operated_lab import DEVICES, LOGIN, OperatedLab, RawAnswer, answering
from tests.raw_device import RawDevice, another_edge
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

HTML = RawAnswer(200, b"<html><body>Please sign in</body></html>", ((b"content-type", b"text/html"),))
ID = "0123456789abcdef"


def document(content: object, status: int = 200) -> RawAnswer:
    return RawAnswer(status, json.dumps(content).encode())


def device(**auth_set: object) -> RawAnswer:
    return document({"id": ID, "auth_sets": [{"id": ID, "pubkey": "?", "status": "pending"} | auth_set]})


@dataclass
class Scene:
    w: World
    mender: OperatedLab


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w:
        await eventually(lambda: w.edge.health().detail["management"]["state"] == "ok")
        yield Scene(w, mender)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param("POST", HTML, id="preauthorise: HTML"),
        pytest.param("POST", RawAnswer(204), id="preauthorise: nothing"),
        pytest.param("POST", document({"error": "bad request", "request_id": "1"}, 400), id="preauthorise: 400"),
        pytest.param("POST", RawAnswer(302, b"", ((b"location", b"/login"),)), id="preauthorise: redirect"),
        pytest.param("POST", RawAnswer(409, b"conflict"), id="conflict: no JSON"),
        pytest.param("POST", RawAnswer(409, b'{"id":"\xff"}'), id="conflict: no UTF-8"),
        pytest.param("POST", RawAnswer(409), id="conflict: empty"),
        pytest.param("POST", document([ID], 409), id="conflict: a list"),
        pytest.param("POST", document({"error": "exists"}, 409), id="conflict: no id"),
        pytest.param("POST", document({"id": 7}, 409), id="conflict: id is a number"),
        pytest.param("POST", document({"id": "../../x"}, 409), id="conflict: id is a path"),
        pytest.param("GET", HTML, id="device: HTML"),
        pytest.param("GET", document([]), id="device: a list"),
        pytest.param("GET", document({}), id="device: empty"),
        pytest.param("GET", document({"id": ID, "auth_sets": "none"}), id="device: sets are a text"),
        pytest.param("GET", document({"id": ID, "auth_sets": ["none"]}), id="device: a set is a text"),
        pytest.param("GET", device(id="a/b"), id="device: id of a set is a path"),
        pytest.param("PUT", HTML, id="accept: HTML"),
        pytest.param("PUT", document({"error": "conflict", "request_id": "1"}, 409), id="accept: 409"),
    ],
)
async def test_answer_is_not_in_its_form(scene: Scene, method: str, answer: RawAnswer) -> None:
    pending = RawDevice(scene.w)
    scene.mender.knock(pending.identity, pending.holder)
    scene.mender.script = answering(answer, method, DEVICES)
    reply = await pending.authenticate()
    assert reply.refusal == (503, "management_unavailable")
    assert reply.header("retry-after") is not None
    assert scene.mender.status_of(pending.identity, pending.holder) == "pending"

    scene.mender.script = None
    assert (await pending.authenticate()).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(device(status="frozen"), id="a status that is not known"),
        pytest.param(device(status=None), id="no status"),
        pytest.param(device(status=["pending"]), id="a status that is a list"),
        pytest.param(device(status={}), id="a status that is an object"),
        pytest.param(device(pubkey=None), id="no key"),
        pytest.param(document({"id": ID, "auth_sets": None}), id="no sets"),
        pytest.param(document({"error": "device not found", "request_id": "1"}, 404), id="no device"),
    ],
)
async def test_device_without_our_key_is_refused_as_mender_refuses_it(scene: Scene, answer: RawAnswer) -> None:
    pending = RawDevice(scene.w)
    scene.mender.knock(pending.identity, pending.holder)
    scene.mender.script = answering(answer, "GET", DEVICES)
    try:
        reply = await pending.authenticate()
        assert reply.passed_on == (401, "dev auth: unauthorized")
        assert "reason=mender_refused" in reply.log
        assert scene.mender.status_of(pending.identity, pending.holder) == "pending"
    finally:
        scene.mender.script = None


@pytest.mark.parametrize(
    "answer", [HTML, RawAnswer(200), RawAnswer(200, b"two words"), RawAnswer(302, b"", ((b"location", b"/x"),))]
)
async def test_login_is_not_in_its_form(scene: Scene, answer: RawAnswer) -> None:
    scene.mender.script = answering(answer, "POST", LOGIN)
    try:
        async with another_edge(scene.w) as edge:
            await eventually(lambda: edge.edge.health().detail["management"]["state"] == "error")
            assert (await RawDevice(edge).authenticate()).refusal == (503, "management_unavailable")
    finally:
        scene.mender.script = None

"""Probes and operators learn how the edge is: a Mender that is down is a detail, not a reason to drop the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from mtls_ambassador import __version__
from mtls_ambassador.lab.server import Fault
from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice, another_edge, let_time_pass
from tests.world import PASSWORD, USER, World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Scene:
    w: World
    mender: OperatedLab
    http: aiohttp.ClientSession = field(repr=False)

    async def get(self, port: int, path: str) -> tuple[int, Any]:
        async with self.http.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.json()

    async def readiness(self, w: World | None = None) -> tuple[int, Any]:
        return await self.get((w or self.w).edge.health_port, "/readyz")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def the_scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w, aiohttp.ClientSession() as http:
        await eventually(lambda: w.edge.health().detail["management"]["state"] == "ok")
        yield Scene(w, mender, http)


@pytest.fixture
def scene(the_scene: Scene) -> Scene:
    the_scene.mender.faults = ()
    the_scene.w.relay.mend()
    return the_scene


async def test_pages_of_a_healthy_edge(scene: Scene) -> None:
    assert await scene.get(scene.w.edge.health_port, "/status") == (200, {"status": "ok"})
    assert await scene.get(scene.w.edge.health_port, "/livez") == (200, {"status": "ok"})
    status, body = await scene.readiness()
    assert status == 200
    assert body["ready"] is True
    assert body["envoy"] == "ready"
    assert body["management"] == {"state": "ok", "text": "logged in"}


async def test_admin_page_counts_outcomes(scene: Scene) -> None:
    _, before = await scene.get(scene.w.edge.admin_port, "/")
    admitted, rejected, mismatched = RawDevice(scene.w), RawDevice(scene.w), RawDevice(scene.w)
    scene.mender.knock(rejected.identity, rejected.holder)
    scene.mender.decide(rejected.identity, rejected.holder, "rejected")
    for device in (admitted, admitted, rejected):
        await device.authenticate()
    await mismatched.authenticate(signature="AAAA")
    scene.mender.faults = (Fault(path="/api/devices/v1/authentication", status=500),)
    await admitted.authenticate()

    status, page = await scene.get(scene.w.edge.admin_port, "/")
    assert status == 200
    assert page["version"] == __version__
    assert page["ready"] is True
    assert page["envoy_restarts"] == 0
    assert page["management_calls"] == before["management_calls"] + 3
    counted = {name: count - before["auth_requests"].get(name, 0) for name, count in page["auth_requests"].items()}
    assert counted == {"admitted": 2, "rejected_by_operator": 1, "bad_signature": 1, "mender_answer": 1}


async def test_pages_hold_no_secret_and_change_nothing(scene: Scene) -> None:
    for port in (scene.w.edge.health_port, scene.w.edge.admin_port):
        for path in ("/", "/status", "/readyz"):
            async with scene.http.get(f"http://127.0.0.1:{port}{path}") as answer:
                text = await answer.text()
                assert PASSWORD not in text
                assert USER not in text
                assert "eyJ" not in text
            async with scene.http.post(f"http://127.0.0.1:{port}{path}") as answer:
                assert answer.status in {404, 405}


def management_answers_503(scene: Scene) -> None:
    scene.mender.faults = (Fault(path="/api/management", status=503),)


def management_is_busy(scene: Scene) -> None:
    scene.mender.faults = (Fault(path="/api/management", status=429, retry_after=1),)


def mender_is_gone(scene: Scene) -> None:
    scene.w.relay.cut()


@pytest.mark.parametrize(
    ("trouble", "state"),
    [(management_answers_503, "error"), (management_is_busy, "busy"), (mender_is_gone, "unreachable")],
)
async def test_mender_is_in_trouble_from_the_start(scene: Scene, trouble: Callable[[Scene], None], state: str) -> None:
    trouble(scene)
    async with another_edge(scene.w) as edge:
        await eventually(lambda: edge.edge.health().detail["management"]["state"] != "untried")
        status, body = await scene.readiness(edge)
        assert status == 200
        assert body["ready"] is True
        assert body["management"]["state"] == state
        assert body["management"]["text"]


@pytest.mark.parametrize(
    ("trouble", "state"),
    [(management_answers_503, "error"), (management_is_busy, "busy"), (mender_is_gone, "unreachable")],
)
async def test_mender_gets_into_trouble_later(scene: Scene, trouble: Callable[[Scene], None], state: str) -> None:
    """What the last management call met is what readiness tells; when it works again, readiness says so, too."""
    async with another_edge(scene.w) as edge:
        await eventually(lambda: edge.edge.health().detail["management"]["state"] == "ok")
        trouble(scene)
        device = RawDevice(edge)
        assert (await device.authenticate(at=edge)).status == 503
        status, body = await scene.readiness(edge)
        assert status == 200
        assert body["ready"] is True
        assert body["management"]["state"] == state

        scene.mender.faults = ()
        scene.w.relay.mend()
        let_time_pass(edge, 61)
        assert (await device.authenticate(at=edge)).status == 200
        assert (await scene.readiness(edge))[1]["management"]["state"] == "ok"


async def test_ready_only_while_it_serves(scene: Scene) -> None:
    async with another_edge(scene.w) as edge:
        assert (await scene.readiness(edge))[0] == 200
        edge.edge._stopping = True
        status, body = await scene.readiness(edge)
        assert (status, body["ready"]) == (503, False)
        assert (await scene.get(edge.edge.health_port, "/livez"))[0] == 200

"""While the management API cannot be asked, devices that Mender accepts get in, and others are told to try again later.

They are not told 401: the edge could not find out whether that would be the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from mtls_ambassador.lab.server import Fault
from mtls_ambassador.mender import management
from tests.operated_lab import DEVICES, Hold, OperatedLab
from tests.raw_device import RawDevice, another_edge, let_time_pass
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

API = "/api/management"


@dataclass
class Scene:
    w: World
    mender: OperatedLab

    def known(self) -> RawDevice:
        """A device that Mender accepts, and that the edge has never seen."""
        device = RawDevice(self.w)
        self.mender.knock(device.identity, device.holder)
        self.mender.decide(device.identity, device.holder, "accepted")
        return device


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def the_scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w:
        await eventually(lambda: w.edge.health().detail["management"]["state"] == "ok")
        yield Scene(w, mender)


@pytest.fixture
def scene(the_scene: Scene) -> Scene:
    the_scene.mender.seen.clear()
    the_scene.mender.faults = ()
    the_scene.mender.script = None
    return the_scene


@pytest.mark.parametrize(
    ("fault", "longest_wait"),
    [
        (Fault(path=API, status=500), 30),
        (Fault(path=API, status=502), 30),
        (Fault(path=API, status=503), 30),
        (Fault(path=API, status=503, retry_after=7), 7),
        (Fault(path=API, status=503, retry_after=86400), 300),
    ],
    ids=str,
)
async def test_it_answers_with_errors(scene: Scene, fault: Fault, longest_wait: int) -> None:
    known, unknown, pending = scene.known(), RawDevice(scene.w), RawDevice(scene.w)
    scene.mender.knock(pending.identity, pending.holder)
    scene.mender.faults = (fault,)
    assert (await known.authenticate()).status == 200
    for device in (unknown, pending):
        reply = await device.authenticate()
        assert reply.refusal == (503, "management_unavailable")
        assert reply.json["error"] == "admission is not possible now, try again later"
        assert 1 <= int(reply.header("retry-after") or 0) <= longest_wait
        assert f"answered {fault.status}" in reply.log
        assert scene.mender.status_of(device.identity, device.holder) == "pending"

    scene.mender.faults = ()
    for device in (unknown, pending):
        assert (await device.authenticate()).status == 200


async def test_it_fails_between_two_calls(scene: Scene) -> None:
    """The first call said that Mender knows the device; what becomes of it cannot be read, or cannot be changed."""
    for method in ("GET", "PUT"):
        device = RawDevice(scene.w)
        scene.mender.knock(device.identity, device.holder)
        scene.mender.faults = (Fault(path=DEVICES, method=method, status=503),)
        assert (await device.authenticate()).refusal == (503, "management_unavailable")
        assert scene.mender.status_of(device.identity, device.holder) == "pending"
        scene.mender.faults = ()
        assert (await device.authenticate()).status == 200


async def test_it_is_slow(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management, "_TIMEOUT", 0.3)
    hold = Hold(lambda request: request.path.startswith(API))
    scene.mender.script = hold
    known, unknown = scene.known(), RawDevice(scene.w)
    assert (await known.authenticate()).status == 200
    reply = await unknown.authenticate()
    assert reply.refusal == (503, "management_unavailable")
    assert reply.header("retry-after") is not None
    assert "did not answer within" in reply.log
    hold.release()
    monkeypatch.undo()
    assert (await unknown.authenticate()).status == 200


async def test_it_asks_us_to_wait(scene: Scene) -> None:
    """After a 429 it is left in peace for as long as it said, and then asked again."""
    async with another_edge(scene.w) as edge:
        first, second, known = RawDevice(edge), RawDevice(edge), scene.known()
        assert (await RawDevice(edge).authenticate()).status == 200  # so that the edge is logged in
        scene.mender.seen.clear()
        scene.mender.faults = (Fault(path=DEVICES, status=429, retry_after=120, count=1),)
        reply = await first.authenticate(at=edge)
        assert reply.refusal == (503, "management_unavailable")
        assert reply.header("retry-after") == "120"
        for _ in range(3):
            reply = await second.authenticate(at=edge)
            assert reply.refusal == (503, "management_unavailable")
            assert 90 < int(reply.header("retry-after") or 0) <= 120
            assert (await known.authenticate(at=edge)).status == 200
        assert scene.mender.admission_calls() == [("POST", DEVICES)]

        let_time_pass(edge, 121)
        for device in (first, second):
            assert (await device.authenticate(at=edge)).status == 200


async def test_it_is_never_asked_about_devices_the_edge_knows(scene: Scene) -> None:
    device = RawDevice(scene.w)
    await device.authenticate()
    scene.mender.faults = (Fault(path=API, status=503),)
    scene.mender.seen.clear()
    replies = await asyncio.gather(*(device.authenticate() for _ in range(4)))
    assert {reply.status for reply in replies} == {200}
    assert scene.mender.admission_calls() == []


async def test_the_login_is_down(scene: Scene) -> None:
    """The same when the edge has not even got a session."""
    known, unknown = scene.known(), RawDevice(scene.w)
    scene.mender.faults = (Fault(path=API, status=503),)
    async with another_edge(scene.w) as edge:
        assert (await known.authenticate(at=edge)).status == 200
        reply = await unknown.authenticate(at=edge)
        assert reply.refusal == (503, "management_unavailable")
        assert reply.header("retry-after") is not None
        scene.mender.faults = ()
        let_time_pass(edge, 61)
        assert (await unknown.authenticate(at=edge)).status == 200

"""A management session that ended is renewed by one login, however many devices need it, and no device notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.operated_lab import DEVICES, LOGIN, OperatedLab, RawAnswer, answering
from tests.raw_device import RawDevice
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEEK = 7 * 86400.0


@dataclass
class Clock:
    """The lab server's clock, which a test sets forward."""

    ahead: float = field(default=0.0)

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Scene:
    w: World
    mender: OperatedLab
    clock: Clock

    def logins(self) -> int:
        return self.w.relay.requests().count(("POST", LOGIN))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    clock = Clock()
    mender = OperatedLab(clock=clock)
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w:
        await eventually(lambda: mender.count("GET", f"{DEVICES}/count"))
        yield Scene(w, mender, clock)


def expire(scene: Scene) -> None:
    scene.clock.ahead += WEEK + 1


def evict(scene: Scene) -> None:
    scene.mender.log_in_elsewhere(11)


def revoke(scene: Scene) -> None:
    scene.mender.revoke_user_sessions()


@pytest.mark.parametrize("end", [expire, evict, revoke])
async def test_one_device_comes_after_the_session_ended(scene: Scene, end: Callable[[Scene], None]) -> None:
    device = RawDevice(scene.w)
    before = scene.logins()
    end(scene)
    reply = await device.authenticate()
    assert await device.call(reply.token) == 200
    assert scene.logins() == before + 1
    assert scene.w.edge.health().detail["management"]["state"] == "ok"


@pytest.mark.parametrize("end", [expire, evict, revoke])
async def test_twenty_devices_come_after_the_session_ended(scene: Scene, end: Callable[[Scene], None]) -> None:
    devices = [RawDevice(scene.w) for _ in range(20)]
    before = scene.logins()
    end(scene)
    replies = await asyncio.gather(*(device.authenticate() for device in devices))
    assert {reply.status for reply in replies} == {200}
    assert scene.logins() == before + 1


async def test_devices_the_edge_knows_need_no_session(scene: Scene) -> None:
    device = RawDevice(scene.w)
    await device.authenticate()
    before = scene.logins()
    revoke(scene)
    assert (await device.authenticate()).status == 200
    assert scene.logins() == before


async def test_a_login_that_helps_nothing_is_not_repeated_for_every_device(scene: Scene) -> None:
    """Each login may evict another edge's session, whose login evicts ours again."""
    before = scene.logins()
    unauthorized = b'{"error":"unauthorized","request_id":"1"}'
    scene.mender.script = answering(RawAnswer(401, unauthorized), "POST", DEVICES)
    try:
        for _ in range(10):
            reply = await RawDevice(scene.w).authenticate()
            assert reply.refusal == (503, "management_unavailable")
            assert reply.header("retry-after") is not None
        assert scene.logins() - before <= 3
    finally:
        scene.mender.script = None

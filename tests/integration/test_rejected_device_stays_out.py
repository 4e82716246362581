"""What an operator rejected stays rejected: no valid certificate, no other key and no number of tries changes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice, another_edge
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Scene:
    w: World
    mender: OperatedLab

    async def assert_refused(self, device: RawDevice) -> None:
        """Three tries at this edge and one at a new one are refused, and Mender's records stay as they are."""
        first = await device.authenticate()  # a key that Mender has never seen becomes pending by this
        before = self.mender.known(device.identity)
        replies = [first, await device.authenticate(), await device.authenticate()]
        async with another_edge(self.w) as restarted:
            replies.append(await device.authenticate(at=restarted))
        for reply in replies:
            assert reply.refusal == (401, "rejected_by_operator")
            assert reply.json["error"] == "the device was rejected"
            assert "reason=rejected_by_operator" in reply.log
            assert "remedy=" in reply.log
        assert self.mender.known(device.identity) == before
        assert "PUT" not in {method for method, _ in self.mender.admission_calls()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def the_scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w:
        yield Scene(w, mender)


@pytest.fixture
def scene(the_scene: Scene) -> Scene:
    the_scene.mender.seen.clear()
    return the_scene


async def test_rejected_before_it_was_ever_accepted(scene: Scene) -> None:
    device = RawDevice(scene.w)
    scene.mender.knock(device.identity, device.holder)
    scene.mender.decide(device.identity, device.holder, "rejected")
    await scene.assert_refused(device)


async def test_rejected_while_the_edge_knows_it_as_admitted(scene: Scene) -> None:
    device = RawDevice(scene.w)
    token = (await device.authenticate()).token
    scene.mender.decide(device.identity, device.holder, "rejected")
    await scene.assert_refused(device)
    assert await device.call(token) == 401


async def test_another_key_is_no_way_around_a_rejection(scene: Scene) -> None:
    device = RawDevice(scene.w)
    await device.authenticate()
    scene.mender.decide(device.identity, device.holder, "rejected")
    other = RawDevice(scene.w, device.identity)
    await scene.assert_refused(other)
    assert scene.mender.status_of(device.identity, device.holder) == "rejected"
    assert scene.mender.status_of(device.identity, other.holder) == "pending"


async def test_a_new_certificate_for_the_same_key_is_no_way_around_it_either(scene: Scene) -> None:
    device = RawDevice(scene.w)
    await device.authenticate()
    scene.mender.decide(device.identity, device.holder, "rejected")
    renewed = scene.w.ca.device("renewed", key=device.holder.key)
    await scene.assert_refused(RawDevice(scene.w, device.identity, holder=renewed))


async def test_only_the_operator_lets_it_in_again(scene: Scene) -> None:
    device = RawDevice(scene.w)
    await device.authenticate()
    scene.mender.decide(device.identity, device.holder, "rejected")
    assert (await device.authenticate()).status == 401
    scene.mender.decide(device.identity, device.holder, "accepted")
    assert (await device.authenticate()).status == 200

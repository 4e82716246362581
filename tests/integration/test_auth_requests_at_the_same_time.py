"""Auth requests of one identity go one after the other, those of different ones do not wait for each other.

Nobody can crowd another out: not the owner of an identity by a certificate that floods it, nor other identities.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.operated_lab import AUTH_REQUESTS, DEVICES, Hold, OperatedLab, SeenRequest
from tests.raw_device import RawDevice, Reply
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Scene:
    w: World
    mender: OperatedLab

    def hold(self, *identities: dict[str, Any]) -> Hold:
        """Hold back the preauthorisation of these identities."""

        def wanted(request: SeenRequest) -> bool:
            if (request.method, request.path) != ("POST", DEVICES):
                return False
            return json.loads(request.body)["identity_data"] in identities

        self.mender.script = hold = Hold(wanted)
        return hold

    def busy(self) -> int:
        return self.w.edge.outcomes.counts["busy"]


def assert_passed(replies: Sequence[Reply], count: int) -> None:
    """So many are 200, and all others are told to come later."""
    assert Counter(reply.status for reply in replies) == {200: count, 429: len(replies) - count}
    for reply in replies:
        if reply.status == 429:
            assert reply.refusal == (429, "busy")
            assert int(reply.header("retry-after") or 0) > 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def the_scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w:
        await eventually(lambda: w.edge.health().detail["management"]["state"] == "ok")
        yield Scene(w, mender)


@pytest.fixture
def scene(the_scene: Scene) -> Scene:
    the_scene.mender.seen.clear()
    the_scene.mender.script = None
    return the_scene


async def test_four_of_a_known_device_pass(scene: Scene) -> None:
    """More than any device sends; that many do not even wait for each other."""
    device = RawDevice(scene.w)
    await device.authenticate()
    scene.mender.seen.clear()
    scene.mender.script = hold = Hold(lambda request: request.path == AUTH_REQUESTS)
    before = scene.busy()
    flight = asyncio.gather(*(device.authenticate() for _ in range(30)))
    await eventually(lambda: hold.held == 4 and scene.busy() == before + 26)
    hold.release()
    assert_passed(await flight, 4)
    assert scene.mender.admission_calls() == []


async def test_two_of_a_new_device_pass_and_it_is_admitted_once(scene: Scene) -> None:
    """No real device does this: two are dealt with, one after the other, and the rest is told to come later."""
    device = RawDevice(scene.w)
    hold = scene.hold(device.identity)
    before = scene.busy()
    flight = asyncio.gather(*(device.authenticate() for _ in range(10)))
    await eventually(lambda: hold.held == 1 and scene.busy() == before + 8)
    hold.release()
    assert_passed(await flight, 2)
    calls = scene.mender.admission_calls()
    assert set(calls) == {("POST", DEVICES)}
    assert len(calls) <= 2
    assert scene.mender.statuses(device.identity) == {device.holder.public_key_pem.decode(): "accepted"}
    assert (await device.authenticate()).status == 200


async def test_nothing_overtakes_the_flight_of_its_identity(scene: Scene) -> None:
    """However many come: while Mender is asked about a device, no other request of it goes there."""
    device = RawDevice(scene.w)
    hold = scene.hold(device.identity)
    before = scene.busy()
    flight = asyncio.gather(*(device.authenticate() for _ in range(30)))
    await eventually(lambda: hold.held == 1 and scene.busy() == before + 28)
    assert scene.mender.count("POST", AUTH_REQUESTS) == 0
    assert scene.mender.known(device.identity) is None
    hold.release()
    assert_passed(await flight, 2)


async def test_one_certificate_with_many_identities_has_four_places_and_gets_one(scene: Scene) -> None:
    first = RawDevice(scene.w)
    devices = [first, *(RawDevice(scene.w, holder=first.holder) for _ in range(9))]
    hold = scene.hold(*(device.identity for device in devices))
    before = scene.busy()
    flight = asyncio.gather(*(device.authenticate() for device in devices))
    await eventually(lambda: hold.held == 1 and scene.busy() == before + 6)
    hold.release()
    replies = await flight
    assert Counter(reply.status for reply in replies) == {200: 1, 401: 3, 429: 6}
    reasons = {reply.json["reason"] for reply in replies if reply.status == 401}
    assert reasons == {"certificate_has_another_identity"}, "not even at the same moment"


async def test_one_certificate_cannot_use_up_the_management_api(scene: Scene) -> None:
    """Ten tries that Mender does not accept are looked into; after that the certificate is told to come later."""
    owner = RawDevice(scene.w)
    await owner.authenticate()
    stranger = RawDevice(scene.w, owner.identity)
    for _ in range(10):
        assert (await stranger.authenticate()).refusal == (401, "key_change_needs_approval")
    scene.mender.seen.clear()
    for _ in range(5):
        reply = await stranger.authenticate()
        assert reply.refusal == (429, "busy")
        assert int(reply.header("retry-after") or 0) > 0
    assert scene.mender.admission_calls() == []
    assert (await owner.authenticate()).status == 200
    scene.mender.decide(owner.identity, stranger.holder, "accepted")
    assert (await stranger.authenticate()).refusal == (429, "busy"), "it has to wait for its next try"


async def test_several_certificates_of_one_key_count_as_one(scene: Scene) -> None:
    first = RawDevice(scene.w)
    certificates = [scene.w.ca.device(f"renewed-{number}", key=first.holder.key) for number in range(7)]
    devices = [first, *(RawDevice(scene.w, first.identity, holder=holder) for holder in certificates)]
    replies = await asyncio.gather(*(device.authenticate() for device in devices for _ in range(2)))
    assert {reply.status for reply in replies} <= {200, 429}
    assert scene.mender.admission_calls().count(("POST", DEVICES)) <= 4
    for device in devices:
        assert (await device.authenticate()).status == 200
    assert scene.mender.statuses(first.identity) == {first.holder.public_key_pem.decode(): "accepted"}


async def test_a_flood_of_one_identity_does_not_keep_its_owner_out(scene: Scene) -> None:
    owner = RawDevice(scene.w)
    scene.mender.knock(owner.identity, owner.holder)
    scene.mender.decide(owner.identity, owner.holder, "accepted")
    stranger = RawDevice(scene.w, owner.identity)
    hold = scene.hold(owner.identity)
    before = scene.busy()
    flood = asyncio.gather(*(stranger.authenticate() for _ in range(20)))
    await eventually(lambda: hold.held == 1 and scene.busy() == before + 18)

    owners = asyncio.create_task(owner.authenticate())
    assert (await stranger.authenticate()).refusal == (429, "busy"), "the stranger's places are all taken"
    hold.release()
    assert (await owners).status == 200
    refusals = Counter(reply.refusal for reply in await flood)
    assert refusals == {(401, "key_change_needs_approval"): 2, (429, "busy"): 18}


async def test_a_flood_of_one_identity_does_not_delay_its_owner_whom_the_edge_knows(scene: Scene) -> None:
    owner = RawDevice(scene.w)
    token = (await owner.authenticate()).token
    stranger = RawDevice(scene.w, owner.identity)
    scene.mender.script = hold = Hold(
        lambda request: request.method == "GET" and request.path.startswith(f"{DEVICES}/")
    )
    before = scene.busy()
    flood = asyncio.gather(*(stranger.authenticate() for _ in range(20)))
    await eventually(lambda: hold.held >= 1 and scene.busy() == before + 18)
    assert (await owner.authenticate()).status == 200
    assert await owner.call(token) == 200
    hold.release()
    await flood


async def test_identities_do_not_wait_for_each_other(scene: Scene) -> None:
    """Ten are asked about at the same time, and an eleventh is done with before any of them."""
    devices = [RawDevice(scene.w) for _ in range(10)]
    hold = scene.hold(*(device.identity for device in devices))
    flight = asyncio.gather(*(device.authenticate() for device in devices))
    await eventually(lambda: hold.held == 10)
    assert (await RawDevice(scene.w).authenticate()).status == 200
    hold.release()
    assert {reply.status for reply in await flight} == {200}


async def test_answers_are_never_shared(scene: Scene) -> None:
    """Ten devices of one identity: one key is admitted, and everybody hears of his own key."""
    identity = RawDevice(scene.w).identity
    devices = [RawDevice(scene.w, identity) for _ in range(10)]
    replies = await asyncio.gather(*(device.authenticate() for device in devices))
    admitted = [device for device, reply in zip(devices, replies, strict=True) if reply.status == 200]
    assert len(admitted) == 1
    refusals = [reply.refusal for reply in replies if reply.status != 200]
    assert len(refusals) == 9
    assert set(refusals) <= {(401, "key_change_needs_approval"), (401, "identity_contested")}
    assert scene.mender.status_of(identity, admitted[0].holder) == "accepted"
    assert Counter(scene.mender.statuses(identity).values()) == {"accepted": 1, "pending": 9}


async def test_a_device_that_left_does_not_block_its_identity(scene: Scene) -> None:
    device = RawDevice(scene.w)
    hold = scene.hold(device.identity)
    leaving = asyncio.create_task(device.authenticate())
    await eventually(lambda: hold.held == 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    again = asyncio.create_task(device.authenticate())
    hold.release()
    assert (await again).status == 200

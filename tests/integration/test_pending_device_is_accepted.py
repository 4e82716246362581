"""A device that waits in Mender's list of pending devices is accepted when it comes with a certificate of ours."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.operated_lab import DEVICES, OperatedLab
from tests.raw_device import RawDevice
from tests.world import world


async def test_pending_device_is_accepted(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        device = RawDevice(w)
        mender.knock(device.identity, device.holder)
        known = mender.known(device.identity)
        assert known is not None
        assert known.status == "pending"

        reply = await device.authenticate()
        assert await device.call(reply.token) == 200
        one = f"{DEVICES}/{known.id}"
        status = f"{one}/auth/{known.auth_sets[0].id}/status"
        assert mender.admission_calls() == [("POST", DEVICES), ("GET", one), ("PUT", status)]
        assert mender.status_of(device.identity, device.holder) == "accepted"
        assert "accepted the device's pending key in Mender" in reply.log
        assert w.edge.outcomes.counts == {"admitted": 1}


async def test_of_two_pending_keys_the_one_that_came_first_is_accepted(tmp_path: Path) -> None:
    clock = itertools.count(2_000_000_000.0)
    mender = OperatedLab(clock=lambda: next(clock))
    async with world(tmp_path, lab=mender) as w:
        first = RawDevice(w)
        second = RawDevice(w, first.identity)
        mender.knock(first.identity, first.holder)
        mender.knock(first.identity, second.holder)

        assert (await second.authenticate()).refusal == (401, "key_change_needs_approval")
        assert set(mender.statuses(first.identity).values()) == {"pending"}
        token = (await first.authenticate()).token
        for _ in range(2):
            assert (await second.authenticate()).refusal == (401, "key_change_needs_approval")
            assert mender.status_of(first.identity, first.holder) == "accepted"
            assert mender.status_of(first.identity, second.holder) == "pending", "it is left to the operator"
            assert await first.call(token) == 200


async def test_of_two_pending_keys_of_the_same_moment_the_operator_chooses(tmp_path: Path) -> None:
    mender = OperatedLab(clock=lambda: 2_000_000_000.0)
    async with world(tmp_path, lab=mender) as w:
        devices = [RawDevice(w, {"mac": "aa"}) for _ in range(2)]
        for device in devices:
            mender.knock(device.identity, device.holder)
        for device in devices:
            assert (await device.authenticate()).refusal == (401, "key_change_needs_approval")
        assert set(mender.statuses({"mac": "aa"}).values()) == {"pending"}

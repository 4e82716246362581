"""A device that waits in Mender's list of pending devices is accepted when it comes with a certificate of ours."""

from __future__ import annotations

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


async def test_of_two_pending_keys_the_one_that_comes_is_accepted(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        device = RawDevice(w)
        twin = RawDevice(w, device.identity)
        mender.knock(device.identity, twin.holder)
        mender.knock(device.identity, device.holder)

        token = (await device.authenticate()).token
        assert mender.status_of(device.identity, device.holder) == "accepted"
        assert mender.status_of(device.identity, twin.holder) == "pending", "the other is left to the operator"
        assert (await twin.authenticate()).refusal == (401, "key_change_needs_approval")
        assert mender.status_of(device.identity, device.holder) == "accepted"
        assert await device.call(token) == 200

"""Beyond Mender's limit of devices the device hears Mender's own refusal, and the operator reads why in the log."""

from __future__ import annotations

from pathlib import Path

from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice
from tests.world import world


async def test_device_limit_is_told(tmp_path: Path) -> None:
    mender = OperatedLab(max_devices=1)
    async with world(tmp_path, lab=mender) as w:
        first, fresh, pending = RawDevice(w), RawDevice(w), RawDevice(w)
        mender.knock(pending.identity, pending.holder)
        assert (await first.authenticate()).status == 200
        for _ in range(2):
            reply = await fresh.authenticate()
            assert reply.passed_on == (401, "unauthorized")
            assert "reason=device_limit" in reply.log
            reply = await pending.authenticate()
            assert reply.passed_on == (401, "dev auth: unauthorized")
            assert "reason=device_limit" in reply.log
            assert "Raise the limit in Mender" in reply.log
        assert mender.status_of(fresh.identity, fresh.holder) == "preauthorized"
        assert mender.status_of(pending.identity, pending.holder) == "pending"
        assert (await first.authenticate()).status == 200

        mender.set_max_devices(3)
        assert (await fresh.authenticate()).status == 200
        assert (await pending.authenticate()).status == 200
        assert w.edge.outcomes.counts == {"admitted": 4, "device_limit": 4}

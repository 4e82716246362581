"""A device that Mender has never heard of gets in because its certificate is ours, and its traffic passes."""

from __future__ import annotations

from pathlib import Path

from tests.world import world


async def test_unknown_device_is_admitted(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.device(identity={"mac": "52:54:00:12:34:56"}) as device:
        await device.authenticate()
        await device.send_inventory({"hostname": "first"})
        assert await device.check_update() is None

        known = w.mender_device({"mac": "52:54:00:12:34:56"})
        assert known.status == "accepted"
        assert known.inventory["hostname"] == "first"
        assert w.edge.outcomes.counts == {"admitted": 1}


async def test_a_known_device_costs_no_management_call(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.device() as device:
        await device.authenticate()
        before = len(w.relay.requests()) - len(w.relay.device_requests())
        for _ in range(3):
            await device.authenticate()
        after = len(w.relay.requests()) - len(w.relay.device_requests())
        assert after == before

"""A management user who may only preauthorise admits new devices; what he may not find out or do is told in the log."""

from __future__ import annotations

from pathlib import Path

from mtls_ambassador.lab.server import Fault
from tests.operated_lab import DEVICES, OperatedLab
from tests.raw_device import RawDevice
from tests.world import eventually, world


async def test_role_that_may_not_read(tmp_path: Path) -> None:
    mender = OperatedLab(role="preauthorize-only")
    async with world(tmp_path, lab=mender) as w:
        await eventually(lambda: w.edge.health().detail["management"]["state"] == "ok")
        fresh, pending, rejected = RawDevice(w), RawDevice(w), RawDevice(w)
        mender.knock(pending.identity, pending.holder)
        mender.knock(rejected.identity, rejected.holder)
        mender.decide(rejected.identity, rejected.holder, "rejected")
        assert (await fresh.authenticate()).status == 200
        newcomer = RawDevice(w, fresh.identity)
        for device in (pending, rejected, newcomer):
            reply = await device.authenticate()
            assert reply.passed_on == (401, "dev auth: unauthorized")
            assert "reason=management_role_too_narrow" in reply.log
            assert "Give the management user a role" in reply.log
        assert mender.status_of(pending.identity, pending.holder) == "pending"
        assert (await fresh.authenticate()).status == 200

        mender.set_role("full")
        assert (await pending.authenticate()).status == 200


async def test_role_that_may_not_preauthorise_or_not_accept(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        known, fresh, pending = RawDevice(w), RawDevice(w), RawDevice(w)
        mender.knock(known.identity, known.holder)
        mender.decide(known.identity, known.holder, "accepted")
        mender.faults = (Fault(path=DEVICES, method="POST", status=403),)
        assert (await known.authenticate()).status == 200
        reply = await fresh.authenticate()
        assert reply.passed_on == (401, "dev auth: unauthorized")
        assert "reason=management_role_too_narrow" in reply.log

        mender.knock(pending.identity, pending.holder)
        mender.faults = (Fault(path=DEVICES, method="PUT", status=403),)
        reply = await pending.authenticate()
        assert reply.passed_on == (401, "dev auth: unauthorized")
        assert "reason=management_role_too_narrow" in reply.log
        assert mender.status_of(pending.identity, pending.holder) == "pending"

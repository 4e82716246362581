"""While Mender removes a device it hears Mender's own refusal; when Mender is done, it is admitted as a new one."""

from __future__ import annotations

from pathlib import Path

from mtls_ambassador.ledger.records import EventKind
from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice, another_edge
from tests.world import world


async def test_decommissioned_device_comes_back(tmp_path: Path) -> None:
    mender = OperatedLab(decommission_delay=3600)
    async with world(tmp_path, lab=mender) as w, another_edge(w) as forgetful:
        device = RawDevice(w)
        token = (await device.authenticate()).token
        former = mender.known(device.identity)
        assert former is not None
        mender.remove(device.identity)
        for edge in (w, w, forgetful):
            reply = await device.authenticate(at=edge)
            assert reply.passed_on == (401, "dev auth: unauthorized")
            assert "reason=decommissioning" in reply.log
            assert "remedy=" in reply.log
        assert await device.call(token) == 401
        assert "PUT" not in {method for method, _ in mender.admission_calls()}

        mender.finish_removals()
        mender.seen.clear()
        reply = await device.authenticate()
        assert await device.call(reply.token) == 200
        now = mender.known(device.identity)
        assert now is not None
        # Known to the ledger, it is forwarded first, and so pending when Mender is asked.
        assert [method for method, _ in mender.admission_calls()] == ["POST", "GET", "PUT"]
        assert await w.history(EventKind.READMITTED) == [EventKind.READMITTED]
        assert now.id != former.id
        assert now.status == "accepted"


async def test_removed_device_that_the_edge_knows_as_admitted(tmp_path: Path) -> None:
    async with world(tmp_path, lab=(mender := OperatedLab())) as w:
        device = RawDevice(w)
        await device.authenticate()
        mender.remove(device.identity)  # at once
        assert mender.known(device.identity) is None
        assert (await device.authenticate()).status == 200
        assert mender.status_of(device.identity, device.holder) == "accepted"

"""Management calls say what they have to and no more: `force`, which overrides operators, is never among it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.operated_lab import DEVICES, OperatedLab
from tests.raw_device import RawDevice, another_edge
from tests.world import world


async def test_force_is_never_sent(tmp_path: Path) -> None:
    """Every row of the admission table, with a memory of the device and without; a world's end looks for it, too."""
    mender = OperatedLab(decommission_delay=3600)
    async with world(tmp_path, lab=mender) as w, another_edge(w) as forgetful:
        fresh, preauthorised, pending, rejected, twin, leaving, limited = (RawDevice(w) for _ in range(7))
        newcomer, superseded = RawDevice(w, fresh.identity), RawDevice(w, twin.identity)
        mender.preauthorise(preauthorised.identity, preauthorised.holder)
        mender.knock(pending.identity, pending.holder)
        mender.knock(rejected.identity, rejected.holder)
        mender.decide(rejected.identity, rejected.holder, "rejected")
        for device in (superseded, leaving):
            await device.authenticate()
        mender.knock(twin.identity, twin.holder)
        mender.decide(twin.identity, twin.holder, "accepted")
        mender.remove(leaving.identity)
        outcomes: list[int] = []
        for device in (fresh, preauthorised, pending, rejected, twin, superseded, leaving, newcomer, limited):
            mender.set_max_devices(4 if device is limited else None)
            outcomes += [(await device.authenticate(at=edge)).status for edge in (w, forgetful, w)]
        assert outcomes == [200] * 9 + [401] * 3 + [200] * 3 + [401] * 12

        bodies = [
            (seen.method, json.loads(seen.body)) for seen in mender.seen if seen.path.startswith(DEVICES) and seen.body
        ]
        assert {(method, tuple(body)) for method, body in bodies} == {
            ("POST", ("identity_data", "pubkey")),
            ("PUT", ("status",)),
        }
        assert {body["status"] for method, body in bodies if method == "PUT"} == {"accepted"}
        assert b"force" not in w.relay.seen

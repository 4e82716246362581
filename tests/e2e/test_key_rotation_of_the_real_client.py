"""The real client gets a new key: of the same subject it goes on by itself, of another it waits for the operator."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from pathlib import Path

import pytest

from mtls_ambassador.lab.mender_client import MenderClient
from mtls_ambassador.lab.server.records import LabCall
from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.refusals import RefusalReason
from tests.certificates import Holder
from tests.e2e.mender_peer import seed_client
from tests.edge_process import PROGRAM
from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice
from tests.world import World, eventually, world

pytestmark = [pytest.mark.needs("mender", "unshare"), pytest.mark.timeout(300)]

IDENTITY = {"mac": "52:54:00:00:03:01"}
LAST_YEAR = dt.datetime.now(dt.UTC) - dt.timedelta(days=365)
PATIENCE = 90.0
"""Seconds. The client tries again every five."""


def client(w: World, holder: Holder) -> MenderClient:
    """The device, with this certificate and key; its state is what it was when it was last switched off."""
    return seed_client(
        w.directory / "client",
        port=w.edge.port,
        trust=[w.directory / "ca.pem"],
        certificate=holder.pem,
        key=holder.key_pem,
        identity=IDENTITY,
    )


async def lives_with(w: World, mender: OperatedLab, holder: Holder) -> None:
    """The device authenticates with this key, and then reports its inventory with the token it got."""
    async with client(w, holder):
        await works(w, mender, holder)


async def works(w: World, mender: OperatedLab, holder: Holder) -> None:
    await eventually(lambda: mender.status_of(IDENTITY, holder) == "accepted", PATIENCE)
    before = len(mender.calls())
    await eventually(lambda: any(is_inventory(call) for call in mender.calls()[before:]), PATIENCE)
    assert w.mender_device(IDENTITY).status == "accepted"


async def explained(w: World) -> str:
    """What `mtls-ambassador devices explain` prints of the device, beside the running edge."""
    assert w.edge.ledger is not None
    await w.edge.ledger.flush()
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        "devices",
        "explain",
        f"mac={IDENTITY['mac']}",
        env={"PATH": os.environ["PATH"], "MTLS_STATE_DIR": str(w.directory / "state")},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def is_inventory(call: LabCall) -> bool:
    return call.path == "/api/devices/v1/inventory/device/attributes" and call.status == 200


async def test_a_new_key_of_the_same_subject_is_accepted_with_no_human(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        old = w.ca.device("board-7", not_before=LAST_YEAR)
        new = w.ca.device("board-7")
        await lives_with(w, mender, old)
        await lives_with(w, mender, new)
        assert mender.statuses(IDENTITY) == {
            old.public_key_pem.decode(): "rejected",
            new.public_key_pem.decode(): "accepted",
        }
        assert await w.history(EventKind.ROTATED, EventKind.REFUSED) == ["rotated"]

        # A copy of the old key, or the device itself from its backup.
        assert (await RawDevice(w, IDENTITY, holder=old).authenticate()).refusal == (401, "key_superseded")
        async with client(w, old):
            superseded = w.edge.outcomes.counts["key_superseded"]
            await eventually(lambda: w.edge.outcomes.counts["key_superseded"] > superseded, PATIENCE)
        assert mender.status_of(IDENTITY, old) == "rejected"
        await lives_with(w, mender, new)


async def test_a_new_key_of_another_subject_waits_for_the_operator(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        old, new = w.ca.device("board-7", not_before=LAST_YEAR), w.ca.device("board-8")
        await lives_with(w, mender, old)
        async with client(w, new):
            await eventually(lambda: w.edge.outcomes.counts["key_change_needs_approval"], PATIENCE)
            assert mender.status_of(IDENTITY, new) == "pending"
            assert mender.status_of(IDENTITY, old) == "accepted"
            told = await explained(w)
            assert f'{{"mac":"{IDENTITY["mac"]}"}}: admitted, and another certificate that claims it is refused' in told
            assert f"belongs to the certificate with serial {old.serial} (CN=board-7)" in told
            assert f"ertificate with serial {new.serial} (CN=board-8)" in told
            assert "Refused: key_change_needs_approval" in told
            assert f"Because: it belongs to the certificate with serial {old.serial} and subject 'CN=board-7'" in told
            assert "Rule: rotation: same-subject" in told
            assert f"What to do: {RefusalReason.KEY_CHANGE_NEEDS_APPROVAL.value.remedy}" in told

            mender.decide(IDENTITY, new, "accepted")
            await works(w, mender, new)
        assert f'{{"mac":"{IDENTITY["mac"]}"}}: admitted' in await explained(w)
        assert (await RawDevice(w, IDENTITY, holder=old).authenticate()).refusal == (401, "key_superseded")
        assert await w.history(EventKind.ROTATED) == []
        await lives_with(w, mender, new)

"""Two devices claim one identity by turns, as fast as the edge answers: one keeps it, and Mender is left in peace."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from mtls_ambassador.admission import admit
from mtls_ambassador.admission.standing import Rotation
from mtls_ambassador.ledger.queries import HistoryFilter, list_devices, list_history
from mtls_ambassador.ledger.records import EventKind
from tests.edge_clocks import set_clock
from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice, Reply
from tests.unit.mender.scripted_egress import Clock
from tests.world import World, world

SECONDS = 60.0
"""By the edge's clock, which the test moves: how many turns a busy machine takes in a minute proves nothing."""
TURNS = 150
UNTIL_NOTICED = 6
"""Turns: four changes of the key make a contest."""
TRIES = admit._TRIES + int(SECONDS * admit._TRIES_PER_SECOND)
"""What one certificate may have asked of the management API in that minute: ten at once, and four more."""
CALLS = TRIES + 3 * UNTIL_NOTICED
"""At most: of the one that does not have it, one call a try, since its key is only looked up; of the one that has it,
none, since it is known; and until it is noticed, with every turn: preauthorise, look up, accept."""
REFUSALS = ((401, "identity_contested"), (401, "key_superseded"), (429, "busy"))
YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("subjects", [("one", "one"), ("one", "other")], ids=["same subject", "another subject"])
@pytest.mark.parametrize("rotation", list(Rotation))
async def test_a_minute_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotation: Rotation, subjects: tuple[str, str]
) -> None:
    mender, clock = OperatedLab(), Clock()
    set_clock(monkeypatch, clock)
    async with world(tmp_path, lab=mender, rotation=rotation.value) as w:
        first = RawDevice(w, holder=w.ca.device(subjects[0], not_before=YESTERDAY))
        second = RawDevice(w, first.identity, holder=w.ca.device(subjects[1]))
        replies = [await turn(clock, device) for _ in range(UNTIL_NOTICED // 2) for device in (first, second)][-2:]
        holder, other = (first, second) if replies[0].status == 200 else (second, first)
        (token,) = [reply.token for reply in replies if reply.status == 200]
        assert await holder.call(token) == 200

        for _ in range(TURNS - UNTIL_NOTICED // 2):
            assert (await turn(clock, holder)).status == 200
            assert (await turn(clock, other)).refusal in REFUSALS
        assert await holder.call(token) == 200  # it was never logged out
        assert mender.status_of(first.identity, holder.holder) == "accepted"

        assert len(mender.admission_calls()) <= CALLS
        await both_are_in_the_ledger(w, holder, other)


async def turn(clock: Clock, device: RawDevice) -> Reply:
    reply = await device.authenticate()
    clock.now += SECONDS / (2 * TURNS)
    return reply


async def both_are_in_the_ledger(w: World, holder: RawDevice, other: RawDevice) -> None:
    ledger = w.edge.ledger
    assert ledger is not None
    await ledger.flush()
    (device,) = await ledger.query(list_devices)
    assert device.contested is not None
    assert device.holder is not None
    assert device.holder.fingerprint == holder.holder.fingerprint
    of_it = HistoryFilter(identity=device.identity)
    entries = await ledger.query(lambda connection: list_history(connection, of_it, limit=2000))
    assert [entry.kind for entry in entries].count(EventKind.CONTESTED) == 1  # said once, not with every turn
    parties = {entry.certificate.fingerprint for entry in entries if entry.certificate}
    assert parties == {holder.holder.fingerprint, other.holder.fingerprint}
    assert w.log_lines("several keys claim one identity by turns")

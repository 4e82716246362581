"""Two edges on one PostgreSQL: what one has seen, the other knows."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mtls_ambassador.ledger.queries import HistoryFilter, list_history
from mtls_ambassador.ledger.records import EventKind
from tests.operated_lab import OperatedLab
from tests.postgresql import postgresql
from tests.raw_device import RawDevice, another_edge
from tests.world import World, world

pytestmark = pytest.mark.needs("postgres", "setpriv")

YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@dataclass
class Scene:
    mender: OperatedLab
    one: World
    other: World


@contextlib.asynccontextmanager
async def two_edges(directory: Path, **options: Any) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    with postgresql() as server:
        async with (
            world(directory, lab=mender, ledger_url=server.url, **options) as one,
            another_edge(one, ledger_url=server.url, **options) as other,
        ):
            yield Scene(mender, one, other)


async def written(w: World) -> None:
    """Wait until what this edge has seen is in the ledger: writing is nobody's to wait for but a test's."""
    assert w.edge.ledger is not None
    await w.edge.ledger.flush()


async def test_a_rotation_seen_by_one_is_known_to_the_other(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as scene:
        old = RawDevice(scene.one, holder=scene.one.ca.device("board-7", not_before=YESTERDAY))
        new = RawDevice(scene.one, old.identity, holder=scene.one.ca.device("board-7"))
        assert (await old.authenticate(at=scene.one)).status == 200
        await written(scene.one)
        assert (await new.authenticate(at=scene.other)).status == 200
        await written(scene.other)
        assert await scene.other.history(EventKind.ROTATED) == ["rotated"]

        scene.mender.seen.clear()
        token = (await new.authenticate(at=scene.one)).token
        assert await new.call(token) == 200
        assert scene.mender.admission_calls() == []  # it is no stranger here
        for edge in (scene.one, scene.other):  # the first has the old certificate in its memory still
            assert (await old.authenticate(at=edge)).refusal == (401, "key_superseded")
        assert "PUT" not in {method for method, _ in scene.mender.admission_calls()}
        assert scene.mender.status_of(new.identity, new.holder) == "accepted"
        assert await new.call(token) == 200


async def test_an_identity_that_one_gave_away_is_held_at_the_other(tmp_path: Path) -> None:
    """Even where Mender has forgotten the device, so that only the ledger can say whose it was."""
    async with two_edges(tmp_path) as scene:
        owner, stranger = RawDevice(scene.one), RawDevice(scene.one)
        stranger.identity = owner.identity
        assert (await owner.authenticate(at=scene.one)).status == 200
        await written(scene.one)
        scene.mender.remove(owner.identity)
        scene.mender.finish_removals()
        assert (await stranger.authenticate(at=scene.other)).refusal == (401, "key_change_needs_approval")
        assert (await owner.authenticate(at=scene.other)).status == 200


async def test_a_certificate_has_one_identity_at_both(tmp_path: Path) -> None:
    async with two_edges(tmp_path) as scene:
        device = RawDevice(scene.one)
        assert (await device.authenticate(at=scene.one)).status == 200
        await written(scene.one)
        scene.mender.seen.clear()
        second = RawDevice(scene.other, holder=device.holder)
        reply = await second.authenticate(at=scene.other)
        assert reply.refusal[1] == "certificate_has_another_identity"
        assert scene.mender.seen == []
        assert (await device.authenticate(at=scene.other)).status == 200
        assert scene.mender.admission_calls() == []


async def test_two_that_fight_over_an_identity_each_at_its_own_edge(tmp_path: Path) -> None:
    """Neither edge sees turns: the key that was displaced stays out all the same, and the ledger has both."""
    async with two_edges(tmp_path, rotation="any") as scene:
        first, second = RawDevice(scene.one), RawDevice(scene.other)
        second.identity = first.identity
        assert (await first.authenticate(at=scene.one)).status == 200
        await written(scene.one)
        token = (await second.authenticate(at=scene.other)).token
        await written(scene.other)
        for _ in range(5):
            assert (await first.authenticate(at=scene.one)).refusal == (401, "key_superseded")
            assert await second.call(token) == 200
            token = (await second.authenticate(at=scene.other)).token
        assert scene.mender.status_of(second.identity, second.holder) == "accepted"
        assert await scene.one.history(EventKind.ROTATED, EventKind.REFUSED) == ["rotated", *["key_superseded"] * 5]
        refused = HistoryFilter(kinds=(EventKind.REFUSED,))
        assert scene.other.edge.ledger is not None
        entry = (await scene.other.edge.ledger.query(lambda connection: list_history(connection, refused)))[0]
        assert entry.certificate is not None
        assert entry.certificate.fingerprint == first.holder.fingerprint

"""With credentials that Mender refuses the edge starts, serves what it can, says so, and leaves Mender in peace."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.operated_lab import LOGIN, OperatedLab
from tests.raw_device import RawDevice, another_edge
from tests.world import World, eventually, world


def management_state(w: World) -> str:
    detail = w.edge.health().detail
    state: str = detail["management"]["state"]
    return state


async def assert_serves_what_it_can(w: World, mender: OperatedLab) -> None:
    """Known devices and their traffic pass; others are told to come later."""
    known, unknown = RawDevice(w), RawDevice(w)
    mender.knock(known.identity, known.holder)
    mender.decide(known.identity, known.holder, "accepted")
    for _ in range(2):
        assert await known.call((await known.authenticate(at=w)).token) == 200
        reply = await unknown.authenticate(at=w)
        assert reply.refusal == (503, "management_unavailable")
        assert 1 <= int(reply.header("retry-after") or 0) <= 60
    assert w.edge.health().ready, "it can serve: a balancer must not drop it"


@pytest.mark.parametrize(
    ("settings", "state", "told"),
    [
        ({"two_factor": True}, "two_factor", "Mender wants a second factor for mender_user"),
        ({"password": "another"}, "credentials_refused", "Mender does not accept mender_user"),
        ({"user": "other@mender.io"}, "credentials_refused", "Mender does not accept mender_user"),
    ],
    ids=["two factors", "wrong password", "wrong user"],
)
async def test_login_is_refused_from_the_start(tmp_path: Path, settings: dict[str, Any], state: str, told: str) -> None:
    mender = OperatedLab(**settings)
    async with world(tmp_path, lab=mender) as w:
        await eventually(lambda: management_state(w) == state)
        (line,) = [line for line in w.log_lines(told) if " error " in line]
        assert "remedy=" in line
        if state == "two_factor":
            assert "mender_token" in line
        assert told in w.edge.health().detail["management"]["text"]
        await assert_serves_what_it_can(w, mender)
        assert w.relay.requests().count(("POST", LOGIN)) == 1
        assert len([line for line in w.log_lines(told) if " error " in line]) == 1


async def test_password_is_changed_while_the_edge_runs(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        admitted = RawDevice(w)
        token = (await admitted.authenticate()).token
        strangers = [RawDevice(w) for _ in range(20)]
        before = w.relay.requests().count(("POST", LOGIN))
        mender.change_password("another")
        for _ in range(2):
            replies = await asyncio.gather(*(device.authenticate() for device in strangers))
            assert {reply.refusal for reply in replies} == {(503, "management_unavailable")}
            assert (await admitted.authenticate()).status == 200
            assert await admitted.call(token) == 200
        assert w.relay.requests().count(("POST", LOGIN)) == before + 1
        assert management_state(w) == "credentials_refused"
        await assert_serves_what_it_can(w, mender)
        assert w.relay.requests().count(("POST", LOGIN)) == before + 1


async def test_personal_access_token(tmp_path: Path) -> None:
    """It admits devices without any login; revoked, it is like a wrong password."""
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        await eventually(lambda: management_state(w) == "ok")
        before = w.relay.requests().count(("POST", LOGIN))
        token = mender.create_token("edge")
        async with another_edge(w, mender_token=token) as edge:
            await eventually(lambda: management_state(edge) == "ok")
            admitted = RawDevice(edge)
            assert (await admitted.authenticate()).status == 200
            mender.revoke_user_sessions()
            assert (await RawDevice(edge).authenticate()).status == 200

            mender.revoke_tokens()
            await assert_serves_what_it_can(edge, mender)
            assert management_state(edge) == "credentials_refused"
            assert (await admitted.authenticate()).status == 200
            (line,) = [line for line in w.log_lines("does not accept mender_token") if " error " in line]
            assert "set mender_token" in line
        assert w.relay.requests().count(("POST", LOGIN)) == before
        assert token not in w.log_text()


async def test_personal_access_token_that_never_was_one(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender, mender_token="not-a-token") as w:
        await eventually(lambda: management_state(w) == "credentials_refused")
        await assert_serves_what_it_can(w, mender)
        assert w.relay.requests().count(("POST", LOGIN)) == 0
        assert "not-a-token" not in w.log_text()

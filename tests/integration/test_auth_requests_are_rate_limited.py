"""A device or an address that sends more auth requests than it may is told when to come again; others do not wait."""

from __future__ import annotations

from pathlib import Path

from tests.raw_device import RawDevice, another_edge
from tests.world import world


async def test_requests_of_one_certificate(tmp_path: Path) -> None:
    async with world(tmp_path, auth_rate_per_certificate="3/h") as w:
        loud, quiet = RawDevice(w), RawDevice(w)
        for _ in range(3):
            assert (await loud.authenticate()).status == 200
        upstream = len(w.relay.requests())
        for _ in range(10):
            reply = await loud.authenticate()
            assert reply.refusal == (429, "rate_limited")
            wait = int(reply.header("retry-after") or "0")
            assert 1000 < wait <= 1200  # one more in a third of an hour
        assert len(w.relay.requests()) == upstream
        assert (await quiet.authenticate()).status == 200
        assert w.edge.report()["auth_requests"] == {"admitted": 4, "rate_limited": 10}
        assert len(w.log_lines("reason=rate_limited")) == 10


async def test_whatever_they_hold_counts(tmp_path: Path) -> None:
    """Nothing is looked at any more: a bad signature beyond the limit is not even verified."""
    async with world(tmp_path, auth_rate_per_certificate="2/h") as w:
        device = RawDevice(w)
        for _ in range(2):
            assert (await device.authenticate(signature="AAAA")).refusal == (401, "bad_signature")
        assert (await device.authenticate(signature="AAAA")).refusal == (429, "rate_limited")


async def test_requests_of_one_address(tmp_path: Path) -> None:
    async with world(tmp_path) as w, another_edge(w, auth_rate_per_address="2/h") as edge:
        assert [(await RawDevice(edge).authenticate()).status for _ in range(3)] == [200, 200, 429]
        reply = await RawDevice(edge).authenticate()
        assert reply.refusal == (429, "rate_limited")
        assert reply.header("retry-after")
        assert "auth_rate_per_address" in reply.log
        for _ in range(3):  # off by default
            assert (await RawDevice(w).authenticate()).status == 200


async def test_limits_that_are_off(tmp_path: Path) -> None:
    async with world(tmp_path, auth_rate_per_certificate="off") as w:
        device = RawDevice(w)
        for _ in range(70):  # more than the default allows at once
            assert (await device.authenticate()).status == 200

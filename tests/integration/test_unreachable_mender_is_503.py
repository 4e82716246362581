"""While Mender cannot be reached every device is told 503 and when to try again, and all is well when it is back."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice, another_edge, let_time_pass
from tests.world import world


async def test_mender_goes_and_comes_back(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        known, unknown = RawDevice(w), RawDevice(w)
        token = (await known.authenticate()).token
        w.relay.cut()
        for device in (known, unknown):
            reply = await device.authenticate()
            assert reply.refusal == (503, "upstream_unavailable")
            assert reply.json["error"] == "the Mender Server cannot be reached, try again later"
            assert int(reply.header("retry-after") or 0) > 0
            assert "Check mender_backend" in reply.log
            assert reply.header("x-edge-failure") is None
        assert await known.call(token) == 503

        w.relay.mend()
        assert (await known.authenticate()).status == 200
        assert (await unknown.authenticate()).status == 200
        assert await known.call(token) == 200


async def test_edge_that_starts_before_mender(tmp_path: Path) -> None:
    """It serves from the first moment, and finds Mender later by itself."""
    async with world(tmp_path, lab=OperatedLab()) as w:
        w.relay.cut()
        async with another_edge(w) as edge:
            device = RawDevice(edge)
            assert (await device.authenticate()).refusal == (503, "upstream_unavailable")
            w.relay.mend()
            let_time_pass(edge, 61)
            assert (await device.authenticate()).status == 200


async def test_nobody_listens(tmp_path: Path) -> None:
    async with world(tmp_path, lab=OperatedLab()) as w:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # and never listens
            async with another_edge(w, mender_backend=f"http://127.0.0.1:{closed.getsockname()[1]}") as edge:
                reply = await RawDevice(edge).authenticate()
                assert reply.refusal == (503, "upstream_unavailable")
                assert "Connection_refused" in reply.log or "connection_failure" in reply.log

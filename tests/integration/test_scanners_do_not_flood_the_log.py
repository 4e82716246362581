"""Hundreds of connections without a certificate leave some dozens of log lines, and those say how many are missing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.attempts import attempt, request
from tests.world import eventually, world

CONNECTIONS = 300
MOST_LINES = 100


async def test_a_scanner(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        context = w.client_context(None)
        at_once = asyncio.Semaphore(50)

        async def scan() -> bytes:
            async with at_once:
                return (await attempt(w.edge.port, request("GET", "/"), context)).data

        assert set(await asyncio.gather(*(scan() for _ in range(CONNECTIONS)))) == {b""}
        await eventually(lambda: w.log_lines("reason=no_certificate"))
        async with w.device() as device:
            await device.authenticate()
        assert w.edge.outcomes.counts == {"admitted": 1}
    told = len(w.log_lines("reason=no_certificate"))
    left_out = sum(int(count) for count in re.findall(r" left_out=(\d+)", w.log_text()))
    assert told + left_out == CONNECTIONS
    assert 50 <= told <= MOST_LINES
    assert "more TLS handshake errors were left out of this log" in w.log_text()


async def test_a_stolen_server_certificate_does_not_flood_it_either(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        server = w.ca.server("my-server.com", eku=None)
        assert server is not None
    async with world(tmp_path, ca=w.ca, server=server) as w:
        asked = b"".join(request("GET", "/status", [("Connection", "keep-alive")]) for _ in range(99))
        context = w.client_context(server)
        await asyncio.gather(*(attempt(w.edge.port, asked + request("GET", "/status"), context) for _ in range(3)))
        await eventually(lambda: w.log_lines("reason=server_certificate"))
    told = len(w.log_lines("reason=server_certificate"))
    left_out = sum(int(count) for count in re.findall(r" left_out=(\d+)", w.log_text()))
    assert told + left_out == CONNECTIONS
    assert 50 <= told <= MOST_LINES

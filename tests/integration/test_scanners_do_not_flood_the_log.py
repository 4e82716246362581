"""Hundreds of connections without a certificate leave some dozens of log lines, and those say how many are missing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.attempts import attempt, request
from tests.certificates import CertificateAuthority
from tests.world import eventually, world

REQUESTS = 300
MOST_LINES = 100


async def test_a_scanner(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        context = w.client_context(None)
        at_once = asyncio.Semaphore(50)

        async def scan() -> bytes:
            async with at_once:
                return (await attempt(w.edge.port, request("GET", "/"), context)).data

        assert set(await asyncio.gather(*(scan() for _ in range(REQUESTS)))) == {b""}
        await eventually(lambda: w.log_lines("reason=no_certificate"))
        async with w.device() as device:
            await device.authenticate()
        assert w.edge.outcomes.counts == {"admitted": 1}
    told = len(w.log_lines("reason=no_certificate"))
    left_out = sum(int(count) for count in re.findall(r" left_out=(\d+)", w.log_text()))
    assert 50 <= told <= MOST_LINES
    assert told + left_out == REQUESTS
    assert "more TLS handshake errors were left out of this log" in w.log_text()


async def test_a_stolen_server_certificate_does_not_flood_it_either(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    server = ca.server("my-server.com", eku=None)
    async with world(tmp_path, ca=ca, server=server) as w:
        context = w.client_context(server)
        twice = request("GET", "/status", [("Connection", "keep-alive")]) + request("GET", "/status")
        at_once = asyncio.Semaphore(50)

        async def knock() -> list[int]:
            async with at_once:
                return [answer.status for answer in (await attempt(w.edge.port, twice, context, answers=2)).answers]

        assert await asyncio.gather(*(knock() for _ in range(REQUESTS // 2))) == [[403, 403]] * (REQUESTS // 2)
        await eventually(lambda: w.log_lines("reason=server_certificate"))
    told = len(w.log_lines("reason=server_certificate"))
    left_out = sum(int(count) for count in re.findall(r" left_out=(\d+)", w.log_text()))
    assert 50 <= told <= MOST_LINES
    assert told + left_out == REQUESTS

"""Hundreds of connections or bad requests leave a bounded number of log lines, and those say how many are missing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from mtls_ambassador.lab.device import AUTH_REQUESTS
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


async def test_a_device_with_bad_auth_requests_floods_nothing_and_hides_no_admission(tmp_path: Path) -> None:
    most = 250  # the burst, and what may be told meanwhile on a slow machine
    async with world(tmp_path) as w:
        holder = w.ca.device("dev-1")
        context = w.client_context(holder)
        bad = request("POST", AUTH_REQUESTS, [("Connection", "keep-alive")], b"{}")
        for _ in range(REQUESTS // 30):
            answers = (await attempt(w.edge.port, bad * 30, context, answers=30)).answers
            assert [answer.status for answer in answers] == [400] * 30
        async with w.device(holder) as device:
            await device.authenticate()
            await device.authenticate()  # known now: no news
    told, admitted = len(w.log_lines("reason=malformed_request")), len(w.log_lines(" admitted 127.0.0.1"))
    assert told < most
    assert admitted >= 1
    left_out = sum(int(count) for count in re.findall(r" left_out=(\d+)", w.log_text()))
    assert told + admitted + left_out == REQUESTS + 2

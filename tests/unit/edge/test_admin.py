"""`edge.admin`: what we ask Envoy on its socket, against one that only pretends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mtls_ambassador.edge.admin import EnvoyAdmin, Traffic
from mtls_ambassador.edge.plan import WorkPaths
from mtls_ambassador.serving import HttpServer, unix_listener


@dataclass
class Pretended:
    """An admin interface that notes what it is asked."""

    answers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: Request) -> PlainTextResponse:
        query = f"?{request.url.query}" if request.url.query else ""
        self.asked.append(f"{request.method} {request.url.path}{query}")
        return PlainTextResponse(self.answers.get(request.url.path, "OK\n"))


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[Pretended]:
    pretended = Pretended()
    app = Starlette(routes=[Route("/{path:path}", pretended.answer, methods=["GET", "POST"])])
    async with HttpServer(app, unix_listener(WorkPaths(tmp_path).envoy_admin)):
        yield pretended


@pytest.mark.parametrize(("answer", "ready"), [("LIVE\n", True), ("PRE_INITIALIZING\n", False), ("DRAINING\n", False)])
async def test_readiness(tmp_path: Path, envoy: Pretended, answer: str, ready: bool) -> None:
    envoy.answers["/ready"] = answer
    assert await EnvoyAdmin(WorkPaths(tmp_path)).ready() is ready


async def test_what_cannot_be_asked_is_not_ready(tmp_path: Path) -> None:
    admin = EnvoyAdmin(WorkPaths(tmp_path))
    assert not await admin.ready()
    with pytest.raises(aiohttp.ClientError):
        await admin.traffic()


_NAMES = ("cx_active", "cx_http1_active", "rq_active", "cx_tx_bytes_buffered")


@pytest.mark.parametrize(
    ("numbers", "traffic", "idle"),
    [
        ((), Traffic(connections=0, new=0, requests=0, unsent=0), True),
        ((17, 17, 0, 0), Traffic(connections=17, new=0, requests=0, unsent=0), True),
        ((17, 16, 0, 0), Traffic(connections=17, new=1, requests=0, unsent=0), False),
        ((17, 17, 2, 0), Traffic(connections=17, new=0, requests=2, unsent=0), False),
        ((17, 17, 0, 9), Traffic(connections=17, new=0, requests=0, unsent=9), False),
        ((17, 18, 0, 0), Traffic(connections=17, new=0, requests=0, unsent=0), True),
    ],
)
async def test_traffic_is_what_devices_have_under_way(
    tmp_path: Path, envoy: Pretended, numbers: tuple[int, ...], traffic: Traffic, idle: bool
) -> None:
    envoy.answers["/stats"] = "".join(
        f"http.edge.downstream_{name}: {number}\n" for name, number in zip(_NAMES, numbers, strict=False)
    )
    found = await EnvoyAdmin(WorkPaths(tmp_path)).traffic()
    assert found == traffic
    assert found.idle is idle


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ("", 0),
        ("listener.[__]_8080.downstream_global_cx_overflow: 3\nlistener.x.downstream_global_cx_overflow: 4\n", 7),
    ],
)
async def test_connections_that_were_turned_away_are_counted(
    tmp_path: Path, envoy: Pretended, answer: str, count: int
) -> None:
    envoy.answers["/stats"] = answer
    assert await EnvoyAdmin(WorkPaths(tmp_path)).turned_away() == count


async def test_draining_is_two_steps(tmp_path: Path, envoy: Pretended) -> None:
    admin = EnvoyAdmin(WorkPaths(tmp_path))
    await admin.close_after_answers()
    await admin.close_listeners()
    assert envoy.asked == ["POST /healthcheck/fail", "POST /drain_listeners?inboundonly"]

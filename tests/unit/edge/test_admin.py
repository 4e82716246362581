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

from mtls_ambassador.edge.admin import EnvoyAdmin
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
        await admin.active_connections()


@pytest.mark.parametrize(("answer", "count"), [("http.edge.downstream_cx_active: 17\n", 17), ("", 0)])
async def test_connections_are_counted(tmp_path: Path, envoy: Pretended, answer: str, count: int) -> None:
    envoy.answers["/stats"] = answer
    assert await EnvoyAdmin(WorkPaths(tmp_path)).active_connections() == count


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


async def test_draining_closes_answers_first_and_then_the_listeners(tmp_path: Path, envoy: Pretended) -> None:
    await EnvoyAdmin(WorkPaths(tmp_path)).stop_accepting()
    assert envoy.asked == ["POST /healthcheck/fail", "POST /drain_listeners?inboundonly"]

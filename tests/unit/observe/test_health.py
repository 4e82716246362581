"""`observe.health`: probes get what they ask, and can change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mtls_ambassador.observe.health import Health, create_admin_app, create_health_app
from mtls_ambassador.serving import HttpServer, tcp_listener

READY = Health(ready=True, detail={"envoy": "ready"})
NOT_READY = Health(ready=False, detail={"envoy": "starting", "management": {"state": "untried"}})


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[Callable[..., Any]]:
    """Serves the application; yields how to ask it."""
    listener = tcp_listener("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with HttpServer(app, listener), aiohttp.ClientSession() as client:

        async def ask(path: str, method: str = "GET") -> tuple[int, Any]:
            async with client.request(method, url + path) as answer:
                return answer.status, await answer.json() if answer.content_type == "application/json" else None

        yield ask


@pytest.mark.parametrize("health", [READY, NOT_READY])
async def test_the_process_is_alive_whatever_it_can_do(health: Health) -> None:
    async with served(create_health_app(lambda: health)) as ask:
        assert await ask("/status") == (200, {"status": "ok"})
        assert await ask("/livez") == (200, {"status": "ok"})


async def test_readiness_follows_the_edge() -> None:
    now = [NOT_READY]
    async with served(create_health_app(lambda: now[0])) as ask:
        assert await ask("/readyz") == (
            503,
            {"ready": False, "envoy": "starting", "management": {"state": "untried"}},
        )
        now[0] = READY
        assert await ask("/readyz") == (200, {"ready": True, "envoy": "ready"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_changed(method: str) -> None:
    async with served(create_health_app(lambda: READY)) as ask:
        for path in ("/status", "/livez", "/readyz"):
            assert (await ask(path, method))[0] == 405
    async with served(create_admin_app(dict)) as ask:
        assert (await ask("/", method))[0] == 405


async def test_there_is_nothing_else() -> None:
    async with served(create_health_app(lambda: READY)) as ask:
        assert (await ask("/"))[0] == 404
        assert (await ask("/metrics/x"))[0] == 404


async def test_the_operator_sees_the_report() -> None:
    async with served(create_admin_app(lambda: {"version": "1", "auth_requests": {"admitted": 2}})) as ask:
        assert await ask("/") == (200, {"version": "1", "auth_requests": {"admitted": 2}})

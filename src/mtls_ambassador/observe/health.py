"""What probes and operators may ask of a running edge; nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class Health:
    """How the edge is."""

    ready: bool
    """This node can serve devices. Mender being down is a detail: it is no reason to drop every replica."""
    detail: Mapping[str, Any]
    """What a person wants to know beside it; no secrets."""


def create_health_app(health: Callable[[], Health]) -> Starlette:
    """The probes.

    - `GET /status`: 200 `{"status":"ok"}` while the process runs, as the original ambassador.
    - `GET /livez`: 200 while the event loop turns; restart the process when it does not answer.
    - `GET /readyz`: 200 when devices can be served, else 503; the body says more either way.
    """

    async def status(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readiness(_: Request) -> JSONResponse:
        now = health()
        return JSONResponse({"ready": now.ready, **now.detail}, 200 if now.ready else 503)

    return Starlette(routes=[Route("/status", status), Route("/livez", status), Route("/readyz", readiness)])


def create_admin_app(report: Callable[[], Mapping[str, Any]]) -> Starlette:
    """The operator's page: what the edge is doing, as JSON at `/`."""

    async def index(_: Request) -> JSONResponse:
        return JSONResponse(report())

    return Starlette(routes=[Route("/", index)])

"""Envoy's admin interface on its Unix socket."""

from __future__ import annotations

import re

import aiohttp

from mtls_ambassador.edge.plan import WorkPaths

_TIMEOUT = aiohttp.ClientTimeout(total=2)


class EnvoyAdmin:
    """A client of the admin interface; every call opens its own connection, since calls are rare."""

    def __init__(self, paths: WorkPaths) -> None:
        self._socket = str(paths.envoy_admin)

    async def ready(self) -> bool:
        """Whether Envoy serves (`GET /ready`); False as well while it cannot be asked."""
        try:
            return (await self._ask("GET", "/ready")).startswith("LIVE")
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def active_connections(self) -> int:
        """Device connections that are open, in handshake or later."""
        text = await self._ask("GET", r"/stats?filter=^http\.edge\.downstream_cx_active$")
        match = re.search(r"downstream_cx_active: (\d+)", text)
        return int(match[1]) if match else 0

    async def active_requests(self) -> int:
        """Requests of devices that are not answered yet."""
        text = await self._ask("GET", r"/stats?filter=^http\.edge\.downstream_rq_active$")
        match = re.search(r"downstream_rq_active: (\d+)", text)
        return int(match[1]) if match else 0

    async def secrets_taken(self) -> bool:
        """Whether the server certificate, with its key, and the trust bundle have been taken."""
        text = await self._ask("GET", r"/stats?filter=sds\..*\.update_success$")
        counts = [int(count) for count in re.findall(r"sds\.\S+\.update_success: (\d+)", text)]
        return len(counts) >= 2 and all(counts)

    async def turned_away(self) -> int:
        """Connections closed since the start because there were too many (`global_downstream_max_connections`)."""
        text = await self._ask("GET", r"/stats?filter=downstream_global_cx_overflow$")
        return sum(int(count) for count in re.findall(r"downstream_global_cx_overflow: (\d+)", text))

    async def stop_accepting(self) -> None:
        """Let every answer close its connection (`/healthcheck/fail`), and close the listeners for devices."""
        await self._ask("POST", "/healthcheck/fail")
        await self._ask("POST", "/drain_listeners?inboundonly")

    async def _ask(self, method: str, path: str) -> str:
        connector = aiohttp.UnixConnector(self._socket)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.request(method, f"http://envoy{path}") as answer,
        ):
            return await answer.text()

"""Envoy's admin interface on its Unix socket."""

from __future__ import annotations

import re
from dataclasses import dataclass

import aiohttp

from mtls_ambassador.edge.plan import WorkPaths

_TIMEOUT = aiohttp.ClientTimeout(total=2)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What devices have under way at one moment."""

    connections: int
    """Open, in handshake or later."""
    new: int
    """Those among them that have not begun a request yet, in handshake for the most part."""
    requests: int
    """Not answered yet; WebSockets and downloads too."""
    unsent: int
    """Bytes of answers that a device has not taken yet."""

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything: each connection had an answer, and no request since."""
        return not (self.new or self.requests or self.unsent)


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

    async def traffic(self) -> Traffic:
        """What devices have under way."""
        text = await self._ask("GET", r"/stats?filter=^http\.edge\.downstream_(cx|rq)_")
        gauges = re.findall(r"^http\.edge\.downstream_(\w+): (\d+)", text, re.MULTILINE)
        found = {name: int(number) for name, number in gauges}
        connections = found.get("cx_active", 0)
        return Traffic(
            connections=connections,
            # A connection has a codec from its first byte of HTTP on.
            new=max(0, connections - found.get("cx_http1_active", 0)),
            requests=found.get("rq_active", 0),
            unsent=found.get("cx_tx_bytes_buffered", 0),
        )

    async def secrets_taken(self) -> bool:
        """Whether the server certificate, with its key, and the trust bundle have been taken."""
        text = await self._ask("GET", r"/stats?filter=sds\..*\.update_success$")
        counts = [int(count) for count in re.findall(r"sds\.\S+\.update_success: (\d+)", text)]
        return len(counts) >= 2 and all(counts)

    async def turned_away(self) -> int:
        """Connections closed since the start because there were too many (`global_downstream_max_connections`)."""
        text = await self._ask("GET", r"/stats?filter=downstream_global_cx_overflow$")
        return sum(int(count) for count in re.findall(r"downstream_global_cx_overflow: (\d+)", text))

    async def close_after_answers(self) -> None:
        """Let every answer close its connection (`/healthcheck/fail`)."""
        await self._ask("POST", "/healthcheck/fail")

    async def close_listeners(self) -> None:
        """Close the listeners for devices, for good."""
        await self._ask("POST", "/drain_listeners?inboundonly")

    async def _ask(self, method: str, path: str) -> str:
        connector = aiohttp.UnixConnector(self._socket)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.request(method, f"http://envoy{path}") as answer,
        ):
            return await answer.text()

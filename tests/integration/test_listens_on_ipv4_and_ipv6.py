"""Without a host in `listen` devices come by IPv4 and by IPv6, and each is known by the address that it has."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from mtls_ambassador.serving import has_ipv6
from tests.attempts import attempt, parse_requests, request
from tests.peers import unavailable
from tests.world import eventually, world


@pytest.mark.parametrize("to", ["127.0.0.1", "::1"])
async def test_listens_on_ipv4_and_ipv6(tmp_path: Path, to: str) -> None:
    if not has_ipv6():
        unavailable("no IPv6 here: sysctl net.ipv6.conf.all.disable_ipv6=0")
    async with world(tmp_path, listen="0", access_log="all") as w:
        device = w.ca.device("dev-1")
        context = w.client_context(device)
        signed = auth_request(device.key, {"mac": "52:54:00:00:00:01"})
        before = len(w.relay.seen)
        asked = request("POST", AUTH_REQUESTS, signed.headers.items(), signed.body)
        admitted = await attempt(w.edge.port, asked, context, to=to)
        assert admitted.answer.status == 200
        token = ("Authorization", f"Bearer {admitted.answer.body.decode()}")
        read = await attempt(w.edge.port, request("GET", INVENTORY, [token]), context, to=to)
        stranger = await attempt(w.edge.port, request("GET", "/"), w.client_context(None), to=to)

        sent = [one for one in parse_requests(bytes(w.relay.seen[before:])) if "management" not in one.target]
        assert [one.headers["x-forwarded-for"] for one in sent] == [(to,), (to,)]
        for line in (
            f" admitted {admitted.address} ",
            f" from {read.address} ",
            f"TLS handshake error from {stranger.address}: ",
        ):
            await eventually(partial(w.log_lines, line))

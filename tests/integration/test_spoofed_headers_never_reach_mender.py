"""What only a proxy may say, a device cannot: such headers make no difference to what Mender or the edge believes.

Each is sent on an ordinary route and with an auth request; Mender then sees, header by header, what it sees without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import pytest
import pytest_asyncio

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from tests.attempts import Headers, attempt, parse_requests, request
from tests.certificates import Holder
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDENTITY = {"mac": "52:54:00:00:00:01"}
SPOOFED = (
    "X-Forwarded-For: 10.1.2.3",
    "x-forwarded-for: 10.1.2.3, 10.1.2.4",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Scheme: http",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Server: evil.example",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Uri: /evil",
    "X-Forwarded-Method: DELETE",
    "X-Forwarded-Ssl: off",
    "X-Forwarded-User: admin",
    "X-Forwarded-Tls-Client-Cert: MII",
    'X-Forwarded-Client-Cert: By=x;Hash=00;Subject="CN=other"',
    "Forwarded: for=10.1.2.3;host=evil.example;proto=http",
    "FORWARDED: for=10.1.2.3",
    "X-Real-IP: 10.1.2.3",
    "X-Real-Ip: 10.1.2.3",
    "X-Original-URL: /api/management/",
    "X-Rewrite-URL: /api/management/",
    "X-Request-Id: evil",
    "X-Envoy-External-Address: 10.1.2.3",
    "X-Envoy-Internal: true",
    "X-Envoy-Original-Path: /api/management/",
    "X-Envoy-Original-Host: evil.example",
    "X-Envoy-Expected-Rq-Timeout-Ms: 1",
    "X-Envoy-Upstream-Rq-Timeout-Ms: 1",
    "X-Envoy-Upstream-Alt-Stat-Name: evil",
    "X-Envoy-Retry-On: 5xx",
    "X-Envoy-Max-Retries: 100",
    "X-Envoy-Decorator-Operation: evil",
    "X-Envoy-Force-Trace: true",
    "X-Envoy-Attempt-Count: 9",
    "X-Envoy-Anything: evil",
    "x-edge-client-cert: evil",
    "X-EDGE-CLIENT-CERT: evil",
    "x-edge-client-address: 10.1.2.3:4",
    "X-Edge-Failure: evil",
    "X-Edge-Anything: evil",
    "x_edge_client_cert: evil",
    "x-edge_client_cert: evil",
    "x_forwarded_for: 10.1.2.3",
    "X_Forwarded_Host: evil.example",
    "X_MEN_RequestID: evil",
    "X-MEN-RBAC-Inventory-Groups: all",
    "X-MEN-RBAC-Deployments-Groups: all",
    "x-men-rbac-anything: evil",
    "X_MEN_RBAC_Inventory_Groups: all",
    "x-edge-client-cert: evil\r\nConnection: close, x-edge-client-cert",
    "Connection: close, x-men-requestid",
    "Keep-Alive: timeout=1",
    "Proxy-Connection: keep-alive",
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def holder(w: World) -> Holder:
    return w.ca.device("dev-1")


def split(lines: str) -> Headers:
    for line in lines.split("\r\n"):
        name, _, value = line.partition(": ")
        yield name, value


async def headers_at_mender(w: World, holder: Holder, route: str, more: Headers) -> Mapping[str, tuple[str, ...]]:
    """What Mender sees of a request with `more` headers, but for the request id's value."""
    if route == "auth":
        signed = auth_request(holder.key, IDENTITY)
        data = request("POST", AUTH_REQUESTS, [*signed.headers.items(), *more], signed.body)
    else:
        data = request("GET", INVENTORY, [("Authorization", "Bearer x"), *more])
    before = len(w.relay.seen)
    await attempt(w.edge.port, data, w.client_context(holder))
    seen = [one for one in parse_requests(bytes(w.relay.seen[before:])) if "/management/" not in one.target]
    (only,) = seen
    assert only.target == (AUTH_REQUESTS if route == "auth" else INVENTORY)
    assert len(only.headers["x-men-requestid"]) == 1
    assert len(only.headers["x-men-requestid"][0]) == 36
    # Where the signature is new each time, its value tells nothing either.
    return {name: value for name, value in only.headers.items() if name not in ("x-men-requestid", "x-men-signature")}


@pytest.mark.parametrize("route", ["ordinary", "auth"])
@pytest.mark.parametrize("spoofed", SPOOFED)
async def test_a_spoofed_header_changes_nothing(w: World, holder: Holder, spoofed: str, route: str) -> None:
    without = await headers_at_mender(w, holder, route, [])
    assert await headers_at_mender(w, holder, route, split(spoofed)) == without


@pytest.mark.parametrize("route", ["ordinary", "auth"])
async def test_all_of_them_together_change_nothing(w: World, holder: Holder, route: str) -> None:
    everything = [header for lines in SPOOFED for header in split(lines)]
    assert await headers_at_mender(w, holder, route, everything) == await headers_at_mender(w, holder, route, [])


@pytest.mark.parametrize("name", ["x-forwarded-for", "X-Forwarded-Host", "x-forwarded-proto"])
@pytest.mark.parametrize("target", [INVENTORY, AUTH_REQUESTS])
async def test_connection_cannot_take_away_what_the_edge_says(w: World, holder: Holder, name: str, target: str) -> None:
    """As headers for one hop (RFC 9110 section 7.6.1) they would not go on to Mender; so this is refused."""
    before = len(w.relay.seen)
    data = request("GET", target, [(name, "evil"), ("Connection", f"close, {name}")])
    tried = await attempt(w.edge.port, data, w.client_context(holder))
    assert tried.answer.status == 400
    assert len(w.relay.seen) == before


@pytest.mark.parametrize(
    "name", ["x-edge-client-cert", "X-Edge-Client-Cert", "x_edge_client_cert", "X-Edge_Client-Cert"]
)
@pytest.mark.parametrize("connection", ["close", "close, x-edge-client-cert", "x-edge-client-cert"])
async def test_no_header_lends_another_certificate(w: World, holder: Holder, name: str, connection: str) -> None:
    """The victim's certificate and its properly signed auth request, sent on another device's connection."""
    victim = w.ca.device("victim")
    signed = auth_request(victim.key, {"mac": f"victim {name} {connection}"})
    lent = [(name, quote(victim.pem.decode(), safe="")), ("Connection", connection)]
    before = len(w.relay.seen)
    data = request("POST", AUTH_REQUESTS, [*signed.headers.items(), *lent], signed.body)
    tried = await attempt(w.edge.port, data, w.client_context(holder))
    assert tried.answer.status == 401
    assert tried.answer.json()["reason"] == "key_mismatch"
    assert len(w.relay.seen) == before


async def test_no_certificate_goes_to_mender(w: World, holder: Holder) -> None:
    for route in ("ordinary", "auth"):
        await headers_at_mender(w, holder, route, [])
    seen = bytes(w.relay.seen).lower()
    assert b"x-edge" not in seen
    assert b"x-envoy" not in seen
    assert b"begin%20certificate" not in seen
    assert b"begin certificate" not in seen

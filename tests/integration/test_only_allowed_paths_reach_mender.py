"""Whatever a device writes as its path, only what lies under the allowed prefixes reaches Mender.

And that in every way in which a server behind could read it: decoded once or twice, with dots resolved, slashes
merged, backslashes turned, parameters cut off, in lower case. Mender's authentication API, which asks for no token, is
reached by nobody but the edge itself.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio

from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import attempt, parse_requests, request
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANAGEMENT = "/api/management/v1/inventory/devices"
PLAIN = (
    "/",
    "/api",
    "/api/",
    "/api/devices",
    "/api/devicesX/v1/inventory",
    "/api/device/",
    MANAGEMENT,
    "/api/management/v2/devauth/devices",
    "/api/internal/v1/devauth/tenants",
    "/api/internal/v1/inventory/health",
    "/ui/",
    "/ui/#/devices",
    "/status/",
    "/STATUS",
    "/status/../api/management/",
    "/robots.txt",
    "/.well-known/acme-challenge/x",
    "/API/DEVICES/v1/inventory",
    "/Api/management/",
    "*",
    "",
    "api/devices/v1/inventory",
    "?/api/devices/",
    "#/api/devices/",
)
TRAVERSALS = (
    f"/api/devices/..{MANAGEMENT}",
    "/api/devices/../management/v1/inventory/devices",
    "/api/devices/v1/../../management/v1/inventory/devices",
    "/api/devices/./../management/",
    "/api/devices/.../../management/",
    "/api/devices/../../../../etc/passwd",
    "/api/devices/..",
    "/api/devices/.",
    "/api/devices/v1/..",
    "/api/devices/v1/../..",
    "/api/devices//../management/",
    "/api/devices//../../management/",
    "//api//devices//..//management//",
    "//mender/api/management/",
    "///api/management/",
    "/./api/management/",
    "/api/./management/",
    "/x/../api/management/",
    "/api/devices/%2e%2e/management/",
    "/api/devices/%2E%2E/management/",
    "/api/devices/.%2e/management/",
    "/api/devices/%2e./management/",
    "/api/devices/v1/%2e%2e/%2e%2e/management/",
    "/api/devices/..%2fmanagement/",
    "/api/devices/..%2Fmanagement/",
    "/api/devices/%2e%2e%2fmanagement/",
    "/api/devices%2f..%2fmanagement/",
    "/api/devices/..%5cmanagement/",
    "/api/devices/%2e%2e%5cmanagement/",
    "/api/devices/..\\management/",
    "/api/devices\\..\\management/",
    "\\api\\management\\",
    "/api/devices/\\../management/",
    "/api/devices/%252e%252e/management/",
    "/api/devices/%252e%252e%252fmanagement/",
    "/api/devices/..%252fmanagement/",
    "/api/devices/..%255cmanagement/",
    "/api/devices/%25252e%25252e/management/",
    "/api/devices/%%32%65%%32%65/management/",
    "/api/devices/%2%65%2%65/management/",
    "/api/devices/..;/management/",
    "/api/devices/..;a=b/management/",
    "/api/devices/.;/..;/management/",
    "/api/devices/v1/..;/..;/management/",
    "/api/devices/%2e%2e;/management/",
    "/api/devices/..%3b/management/",
    "/api/devices/..%3Ba=b/management/",
    "/api/devices/v1/..%3b/..%3b/management/",
    "/api/devices/%2e%2e%3b/management/",
    "/api/devices/..%253b/management/",
    "/api/devices/;/../../management/",
    "/api/devices/;a/../management/",
    "/api/devices/v1;/../../management/",
    "/api/devices/x;/..;/..;/management/",
    "/api/devices;/../management/",
    "/api/devices;x/v1/inventory",
    "/api;/management/",
    "/api/devices/..%00/management/",
    "/api/devices/%00/../management/",
    "/api/devices/..\0/management/",
    "/api/devices/..%0d%0a/management/",
    "/api/devices/..%09/management/",
    "/api/devices/.. /management/",
    "/api/devices/..%20/management/",
    "/api/devices/..?/management/",
    "/api/devices/..#/management/",
    "/api/devices/..%3f/management/",
    "/api/devices/..%23/management/",
    "/api/devices/%c0%ae%c0%ae/management/",
    "/api/devices/%c0%ae%c0%ae%c0%afmanagement/",
    "/api/devices/%e0%80%ae%e0%80%ae/management/",
    "/api/devices/..%c0%afmanagement/",
    "/api/devices/..%c1%9cmanagement/",
    "/api/devices/%u002e%u002e/management/",
    "/api/devices/%uff0e%uff0e/management/",
    "/api/devices/%ef%bc%8e%ef%bc%8e/management/",
    "/api/devices/\xc0\xae\xc0\xae/management/",
    "/api/%64evices/../management/",
    "/%61pi/management/",
    "/%61%70%69/%6d%61%6e%61%67%65%6d%65%6e%74/",
    "/api/%2564evices/../management/",
    "/api/devices/v1/inventory/../../../management/v1",
    "/api/devices/v1/inventory/%2e%2e/%2e%2e/%2e%2e/management/v1",
)
AUTHENTICATION = (
    f"{AUTH_REQUESTS}/",
    f"{AUTH_REQUESTS}//",
    f"{AUTH_REQUESTS}/.",
    f"{AUTH_REQUESTS}/x",
    f"{AUTH_REQUESTS}/..",
    f"{AUTH_REQUESTS};a",
    f"{AUTH_REQUESTS};a=b/",
    f"{AUTH_REQUESTS}%3ba",
    f"{AUTH_REQUESTS}%20",
    f"{AUTH_REQUESTS}%09",
    f"{AUTH_REQUESTS}%00",
    f"{AUTH_REQUESTS}%2f",
    f"{AUTH_REQUESTS}%3f",
    f"{AUTH_REQUESTS}%23",
    f"{AUTH_REQUESTS}.",
    f"{AUTH_REQUESTS}.json",
    f"{AUTH_REQUESTS}\\",
    f"{AUTH_REQUESTS}?",
    f"{AUTH_REQUESTS}?a=b",
    f"/{AUTH_REQUESTS}",
    f"/.{AUTH_REQUESTS}",
    f"/x/..{AUTH_REQUESTS}",
    AUTH_REQUESTS.upper(),
    AUTH_REQUESTS.replace("auth_requests", "AUTH_REQUESTS"),
    AUTH_REQUESTS.replace("authentication", "Authentication"),
    AUTH_REQUESTS.replace("authentication", "AUTHENTICATION"),
    AUTH_REQUESTS.replace("authentication", "%61uthentication"),
    AUTH_REQUESTS.replace("authentication", "%41uthentication"),
    AUTH_REQUESTS.replace("authentication", "%2561uthentication"),
    AUTH_REQUESTS.replace("authentication", "authentication;a"),
    AUTH_REQUESTS.replace("authentication", "authentication%3ba"),
    AUTH_REQUESTS.replace("authentication", ".;/authentication"),
    AUTH_REQUESTS.replace("authentication", ";/authentication"),
    AUTH_REQUESTS.replace("authentication", ";a/authentication"),
    AUTH_REQUESTS.replace("authentication", "%3b/authentication"),
    AUTH_REQUESTS.replace("authentication", "%3ba/authentication"),
    AUTH_REQUESTS.replace("authentication", ".%3b/authentication"),
    AUTH_REQUESTS.replace("authentication", "x/..%3b/authentication"),
    AUTH_REQUESTS.replace("authentication", "x/..;/authentication"),
    AUTH_REQUESTS.replace("authentication", "x/../authentication"),
    AUTH_REQUESTS.replace("authentication", "./authentication"),
    AUTH_REQUESTS.replace("authentication", "/authentication"),
    AUTH_REQUESTS.replace("authentication", "\\authentication"),
    AUTH_REQUESTS.replace("authentication", "%2fauthentication"),
    AUTH_REQUESTS.replace("authentication", "authentication%2f"),
    AUTH_REQUESTS.replace("authentication", "authentication%5c"),
    AUTH_REQUESTS.replace("authentication", "authentication\\"),
    AUTH_REQUESTS.replace("auth_requests", "%61uth_requests"),
    AUTH_REQUESTS.replace("auth_requests", "auth%5frequests"),
    AUTH_REQUESTS.replace("auth_requests", "auth%5Frequests"),
    AUTH_REQUESTS.replace("auth_requests", "auth%255frequests"),
    AUTH_REQUESTS.replace("v1", "v2"),
    AUTH_REQUESTS.replace("v1", "V1"),
    AUTH_REQUESTS.replace("v1", "v1;a"),
    AUTH_REQUESTS.replace("v1", "v1%3ba"),
    AUTH_REQUESTS.replace("v1", "%761"),
    AUTH_REQUESTS.replace("v1", ";/v1"),
    AUTH_REQUESTS.replace("v1", ";a/v1"),
    AUTH_REQUESTS.replace("v1", "%3b/v1"),
    AUTH_REQUESTS.replace("v1", "./v1"),
    AUTH_REQUESTS.replace("v1", ".;/v1"),
    AUTH_REQUESTS.replace("v1", "v2/../v1"),
    AUTH_REQUESTS.replace("devices", "devices;a"),
    AUTH_REQUESTS.replace("devices", "Devices"),
    "/api/devices/v1/authentication",
    "/api/devices/v1/authentication/",
    "/api/devices/v2/authentication/auth_requests",
    "/api/devices/v1/authentication/tokens/verify",
    "/api/devices/v1.0/authentication/auth_requests",
    "/api/devices/v1/inventory/../authentication/auth_requests",
    "/api/devices/v1/inventory/%2e%2e/authentication/auth_requests",
)
ABSOLUTE = (
    f"http://my-server.com{MANAGEMENT}",
    f"https://my-server.com{MANAGEMENT}",
    "http://my-server.com/api/devices/../management/",
    "http://my-server.com/api/devices/..%2fmanagement/",
    "http://my-server.com",
    "http://my-server.com?/api/devices/",
    "http:///api/management/",
    "http://mender/api/management/",
    "http://user@my-server.com/api/management/",
    "http://my-server.com/api/devices/v2/authentication/auth_requests",
    f"http://my-server.com{AUTH_REQUESTS}/",
    "ftp://my-server.com/api/management/",
    "file:///api/management/",
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        await quiet(running)
        yield running


async def quiet(w: World) -> None:
    """Wait until the edge has nothing more to ask of Mender by itself."""


def readings(path: str) -> set[str]:
    """Everything that some server might take `path` for."""
    steps = (
        lambda text: unquote(text, "latin-1"),
        lambda text: text.replace("\\", "/"),
        lambda text: re.sub("/{2,}", "/", text),
        lambda text: re.sub(";[^/]*", "", text),
        resolve_dots,
        str.lower,
        lambda text: text.partition("\0")[0],
    )
    found, new = {path}, {path}
    while new:
        new = {step(text) for text in new for step in steps} - found
        found |= new
    return found


def resolve_dots(path: str) -> str:
    """RFC 3986 section 5.2.4."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


async def test_readings_find_what_a_server_might() -> None:
    """The check below is only as good as this."""
    for path in ("/api/devices/%252e%252e;x/management", "/api/devices/..%255C..\\\\api//management"):
        assert "/api/management" in readings(path)
    assert "/api/devices/v1/authentication/x" in readings("/api/devices/v1/%3b/Authentication/x")
    assert readings("/api/devices/v1/x") == {"/api/devices/v1/x"}


def check(targets: list[str], prefixes: tuple[str, ...] = ("/api/devices/",)) -> None:
    """Every reading of every target lies where it may."""
    for target in targets:
        for path in readings(target.partition("?")[0]):
            assert path.startswith(prefixes), f"{target} may be read as {path}"
            assert not re.match("/api/devices/[^/]*/authentication", path), f"{target} may be read as {path}"


async def ask(w: World, target: str, method: str) -> list[str]:
    """Send a request for `target` with a good certificate; the targets that Mender then saw."""
    before = len(w.relay.seen)
    body = b"{}" if method == "POST" else b""
    headers = [("Authorization", "Bearer x"), ("Content-Type", "application/json")]
    tried = await attempt(w.edge.port, request(method, target, headers, body), w.client_context(w.ca.device("dev-1")))
    seen = [one.target for one in parse_requests(bytes(w.relay.seen[before:]))]
    if not seen:
        assert tried.answer.status in (400, 404, 405, 415), tried.answer
    return seen


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", [*PLAIN, *TRAVERSALS, *AUTHENTICATION, *ABSOLUTE], ids=ascii)
async def test_only_allowed_paths(w: World, target: str, method: str) -> None:
    check(await ask(w, target, method))


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/api/devices/v1/inventory/device/attributes", "/api/devices/v1/inventory/device/attributes"),
        ("/api/devices/v1/x?a=/../b&c=%2f%252e;#d"[:-2], "/api/devices/v1/x?a=/../b&c=%2f%252e;"),
        ("/api/devices//v1/./x/../y", "/api/devices/v1/y"),
        ("//api/devices/v1/x", "/api/devices/v1/x"),
        ("/api/devices/v1/a%20b", "/api/devices/v1/a%20b"),
        ("/api/devices/v1/%61", "/api/devices/v1/a"),
        ("http://my-server.com/api/devices/v1/x", "/api/devices/v1/x"),
        ("/api/devices/v9/new/service", "/api/devices/v9/new/service"),
        ("/api/devices/v1/deployments/download/configuration/a/b?x-men-signature=c%2Bd", None),
        ("/api/devices/v1/x/authentication", None),
    ],
)
async def test_ordinary_paths_do_reach_mender(w: World, target: str, seen: str | None) -> None:
    """What is forwarded is forwarded in its normal form; a query is left as it is."""
    assert await ask(w, target, "GET") == [seen or target]


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT my-server.com:443 HTTP/1.1",
        "CONNECT 127.0.0.1:80 HTTP/1.1",
        f"CONNECT {MANAGEMENT} HTTP/1.1",
        "CONNECT /api/devices/v1/x HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        f"OPTIONS {MANAGEMENT} HTTP/1.1",
        "TRACE / HTTP/1.1",
        "PRI * HTTP/2.0",
        f"GET {MANAGEMENT} HTTP/1.0",
        f"GET {MANAGEMENT} HTTP/0.9",
        f"GET {MANAGEMENT} HTTP/2.0",
        f"GET {MANAGEMENT}",
        f"GET  {MANAGEMENT} HTTP/1.1",
        f"GET\t{MANAGEMENT}\tHTTP/1.1",
        f" GET {MANAGEMENT} HTTP/1.1",
        f"GET /api/devices/ {MANAGEMENT} HTTP/1.1",
        f"GET {MANAGEMENT} /api/devices/ HTTP/1.1",
        f"get {MANAGEMENT} HTTP/1.1",
        f"PURGE {MANAGEMENT} HTTP/1.1",
        f"G\0T {MANAGEMENT} HTTP/1.1",
    ],
)
async def test_other_request_lines(w: World, line: str) -> None:
    before = len(w.relay.seen)
    data = f"{line}\r\nHost: my-server.com\r\nConnection: close\r\n\r\n".encode("latin-1")
    tried = await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")))
    assert len(w.relay.seen) == before, bytes(w.relay.seen[before:])
    assert [answer.status for answer in tried.answers] in ([], [400], [403], [404], [405], [426], [505])


@pytest.mark.parametrize(
    "header", ["X-Original-URL", "X-Rewrite-URL", "X-Envoy-Original-Path", "X-HTTP-Method-Override"]
)
async def test_no_header_names_another_path(w: World, header: str) -> None:
    before = len(w.relay.seen)
    data = request("GET", "/api/devices/v1/x", [(header, MANAGEMENT)])
    await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")))
    (seen,) = parse_requests(bytes(w.relay.seen[before:]))
    assert seen.target == "/api/devices/v1/x"
    if header != "X-HTTP-Method-Override":
        assert MANAGEMENT not in str(seen.headers)


async def test_narrower_paths(tmp_path: Path) -> None:
    """The setting allowed_paths; the authentication path is always served, by the edge."""
    prefixes = ("/api/devices/v1/inventory/", "/api/devices/v1/deployments/")
    async with world(tmp_path, allowed_paths=list(prefixes)) as w:
        await quiet(w)
        for target in (*PLAIN, *TRAVERSALS, *AUTHENTICATION, *ABSOLUTE):
            check(await ask(w, target, "GET"), prefixes)
        for target in (
            "/api/devices/v1/deviceconfig/configuration",
            "/api/devices/v1/deviceconnect/connect",
            "/api/devices/v2/deployments/device/deployments/next",
            "/api/devices/v1/inventory",
            "/api/devices/v1/inventory/../deviceconfig/configuration",
            "/api/devices/v1/inventory/..;/deviceconfig/configuration",
            "/api/devices/v1/inventory/..%3b/deviceconfig/configuration",
            "/api/devices/v1/inventory/%2e%2e/deviceconfig/configuration",
        ):
            check(await ask(w, target, "GET"), prefixes)
        for prefix in prefixes:
            assert await ask(w, f"{prefix}device", "GET") == [f"{prefix}device"]
        async with w.device() as device:
            await device.authenticate()
            await device.send_inventory()
            assert await device.check_update() is None

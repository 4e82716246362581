"""Mender gets its own name as Host, and in X-Forwarded-* who the device is and which name of the edge it used.

Mender makes links to artifacts from X-Forwarded-Host, so it is never anything that our certificate does not bear.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from tests.attempts import Headers, SeenRequest, attempt, parse_requests, request
from tests.certificates import CertificateAuthority
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        await quiet(running)
        yield running


async def quiet(w: World) -> None:
    """Wait until the edge has nothing more to ask of Mender by itself."""


async def seen_of(w: World, data: bytes, name: str = "my-server.com") -> list[SeenRequest]:
    """What Mender sees of these bytes of a new device, which connects to `name`."""
    before = len(w.relay.seen)
    await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")), host=name)
    return parse_requests(bytes(w.relay.seen[before:]))


async def ordinary(w: World, host: str, headers: Headers = ()) -> SeenRequest:
    """What Mender sees of an ordinary request for `host`."""
    (only,) = await seen_of(w, request("GET", INVENTORY, headers, host=host))
    return only


async def authentication(w: World, host: str, headers: Iterable[tuple[str, str]] = ()) -> list[SeenRequest]:
    """What Mender sees of a new device's auth request: the preauthorisation, then the request."""
    device = w.ca.device("dev-1")
    signed = auth_request(device.key, {"mac": f"{len(w.lab.devices())}"})
    before = len(w.relay.seen)
    data = request("POST", AUTH_REQUESTS, [*signed.headers.items(), *headers], signed.body, host=host)
    tried = await attempt(w.edge.port, data, w.client_context(device))
    assert tried.answer.status == 200
    return parse_requests(bytes(w.relay.seen[before:]))


async def test_an_ordinary_request(w: World) -> None:
    sent = [("Authorization", "Bearer a.b.c"), ("User-Agent", "mender"), ("Accept", "*/*"), ("X-Own", "kept")]
    seen = await ordinary(w, f"my-server.com:{w.edge.port}", sent)
    request_id = seen.headers["x-men-requestid"]
    assert UUID.fullmatch(request_id[0])
    assert seen.headers == {
        "host": (f"127.0.0.1:{w.relay.port}",),
        "authorization": ("Bearer a.b.c",),
        "user-agent": ("mender",),
        "accept": ("*/*",),
        "x-own": ("kept",),
        "x-forwarded-for": ("127.0.0.1",),
        "x-forwarded-proto": ("https",),
        "x-forwarded-host": (f"my-server.com:{w.edge.port}",),
        "x-men-requestid": request_id,
    }


async def test_an_auth_request(w: World) -> None:
    preauthorisation, seen = await authentication(w, f"my-server.com:{w.edge.port}", [("X-Own", "kept")])
    assert preauthorisation.target == "/api/management/v2/devauth/devices"
    request_id = seen.headers["x-men-requestid"]
    assert UUID.fullmatch(request_id[0])
    assert preauthorisation.headers["x-men-requestid"] == request_id
    assert seen.headers == {
        "host": (f"127.0.0.1:{w.relay.port}",),
        "authorization": ("Bearer",),  # the Go client sends it so, without a tenant token
        "content-type": ("application/json",),
        "content-length": (str(len(seen.body)),),
        "x-men-signature": seen.headers["x-men-signature"],
        "x-own": ("kept",),
        "x-forwarded-for": ("127.0.0.1",),
        "x-forwarded-proto": ("https",),
        "x-forwarded-host": (f"my-server.com:{w.edge.port}",),
        "x-men-requestid": request_id,
    }


async def test_management_calls(w: World) -> None:
    """They are the edge's own: nothing in their headers comes from the device but the request id."""
    await authentication(w, "my-server.com", [("X-Own", "kept"), ("User-Agent", "mender")])
    calls = [one for one in parse_requests(bytes(w.relay.seen)) if one.target.startswith("/api/management/")]
    assert {one.target.partition("?")[0] for one in calls} == {
        "/api/management/v1/useradm/auth/login",
        "/api/management/v2/devauth/devices/count",
        "/api/management/v2/devauth/devices",
    }
    for call in calls:
        assert call.headers["host"] == (f"127.0.0.1:{w.relay.port}",)
        if not call.target.endswith("/login"):
            assert len(call.headers["x-men-requestid"]) == 1
        assert call.headers.keys() - {"x-forwarded-proto"} <= {
            "host", "authorization", "content-type", "content-length", "x-men-requestid",
        }  # fmt: skip


@pytest.mark.parametrize("request_id", ["mine-1", "5d1e7a0c-0000-4000-8000-000000000000", "a" * 128])
async def test_a_devices_own_request_id_is_kept(w: World, request_id: str) -> None:
    own = [("X-MEN-RequestID", request_id)]
    assert (await ordinary(w, "my-server.com", own)).headers["x-men-requestid"] == (request_id,)
    for seen in await authentication(w, "my-server.com", own):
        assert seen.headers["x-men-requestid"] == (request_id,)


@pytest.mark.parametrize("sent", ["Bearer a.b.c", "bearer  x", "Basic dTpw", "Bearer " + "x" * 4000])
async def test_authorization_is_untouched(w: World, sent: str) -> None:
    assert (await ordinary(w, "my-server.com", [("Authorization", sent)])).headers["authorization"] == (sent,)


@pytest.mark.parametrize(
    ("host", "forwarded"),
    [
        ("my-server.com", "my-server.com"),
        ("my-server.com:443", "my-server.com:443"),
        ("my-server.com:8443", "my-server.com:8443"),
        ("MY-Server.com", "MY-Server.com"),
        ("localhost", "localhost"),
        ("localhost:1", "localhost:1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("evil.example", "my-server.com"),
        ("evil.example:443", "my-server.com"),
        ("my-server.com.evil.example", "my-server.com"),
        ("evil-my-server.com", "my-server.com"),
        ("a.my-server.com", "my-server.com"),
        ("127.0.0.2", "my-server.com"),
        ("edge", "my-server.com"),
        ("*", "my-server.com"),
    ],
)
async def test_the_name_that_the_device_used(w: World, host: str, forwarded: str) -> None:
    assert (await ordinary(w, host)).headers["x-forwarded-host"] == (forwarded,)
    assert (await authentication(w, host))[-1].headers["x-forwarded-host"] == (forwarded,)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example@my-server.com",
        "my-server.com@evil.example",
        "my-server.com:@evil.example",
        "my-server.com:80@evil.example",
        "my-server.com:evil",
        "my-server.com:80:90",
        "my-server.com:-1",
        "my-server.com/evil",
        "my-server.com:80/evil",
        "my-server.com?evil",
        "my-server.com evil.example",
        "my-server.com,evil.example",
        "[my-server.com]",
    ],
)
async def test_hosts_that_are_none(w: World, host: str) -> None:
    """They are refused, or replaced; a part of them never is taken for a name, nor the rest for a port."""
    for seen in await seen_of(w, request("GET", INVENTORY, host=host)):
        assert seen.headers["x-forwarded-host"] == ("my-server.com",)
        assert seen.headers["host"] == (f"127.0.0.1:{w.relay.port}",)


@pytest.mark.parametrize("line", ["", "Host:\r\n", "Host: my-server.com:99\r\n", "Host: evil.example\r\n"])
async def test_http_1_0(w: World, line: str) -> None:
    """Where no host need be given."""
    (seen,) = await seen_of(w, f"GET {INVENTORY} HTTP/1.0\r\n{line}\r\n".encode())
    expected = "my-server.com:99" if "my-server" in line else "my-server.com"
    assert seen.headers["x-forwarded-host"] == (expected,)
    assert seen.headers["host"] == (f"127.0.0.1:{w.relay.port}",)


async def test_absolute_form(w: World) -> None:
    """The host in the target counts, not the header (RFC 9112 section 3.2.2)."""
    (seen,) = await seen_of(w, request("GET", f"https://localhost:7{INVENTORY}", host="evil.example"))
    assert seen.headers["x-forwarded-host"] == ("localhost:7",)
    (seen,) = await seen_of(w, request("GET", f"https://evil.example{INVENTORY}", host="localhost"))
    assert seen.headers["x-forwarded-host"] == ("my-server.com",)


async def test_wildcard_names(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    server = ca.server("x", san=["DNS:*.devices.example", "DNS:edge.example", "DNS:my-server.com"])
    async with world(tmp_path, ca=ca, server=server) as w:
        await quiet(w)
        for host, forwarded in {
            "line-1.devices.example:8443": "line-1.devices.example:8443",
            "edge.example": "edge.example",
            "devices.example": "edge.example",
            "evil.example": "edge.example",
        }.items():
            assert (await ordinary(w, host)).headers["x-forwarded-host"] == (forwarded,), host


async def test_what_only_ends_in_a_wildcard_name(tmp_path: Path) -> None:
    """Envoy takes it for a name under the wildcard, whatever stands before it."""
    ca = CertificateAuthority("My CA")
    server = ca.server("x", san=["DNS:example.com", "DNS:*.example.com", "DNS:my-server.com"])
    async with world(tmp_path, ca=ca, server=server) as w:
        await quiet(w)
        context = w.client_context(w.ca.device("dev-1"))
        before = len(w.relay.seen)
        answers = dict[str, int]()
        for host in (
            "evil.test,x.example.com",
            "evil.test\r\nHost: x.example.com",
            "evil.test%2f.example.com",
            "evil.test%00.example.com",
            "evil.test;.example.com",
            "evil.test=.example.com",
            "evil.test&.example.com",
            "evil.test(.example.com",
            "evil.test'.example.com",
            "evil.test!.example.com",
            "evil.test$.example.com",
            "evil.test~.example.com",
            "evil.test/.example.com",
            "evil.test?.example.com",
            "evil.test#.example.com",
            "evil.test\\.example.com",
            "evil.test@x.example.com",
            "evil.test:1@x.example.com",
            "evil.test:.example.com",
            "[::1].example.com",
            "*.example.com",
            "a.b.example.com",
            "evil.test..example.com",
            ".example.com",
            "x.example.com:1,evil.test:2",
            "x.example.com:",
            "x.example.com:123456",
            "\xe4.example.com",
        ):
            answers[host] = (await attempt(w.edge.port, request("GET", INVENTORY, host=host), context)).answer.status
        target = f"https://evil.test,x.example.com{INVENTORY}"
        answers[target] = (await attempt(w.edge.port, request("GET", target), context)).answer.status
        passed = [host for host, status in answers.items() if status != 400]
        # What Envoy takes for another's name, which Mender never hears.
        assert passed == [
            "evil.test:1@x.example.com",
            "evil.test:.example.com",
            ".example.com",
            "x.example.com:1,evil.test:2",
        ]
        seen = parse_requests(bytes(w.relay.seen[before:]))
        assert [one.headers["x-forwarded-host"] for one in seen] == [("example.com",)] * len(passed)


async def test_wildcard_name_alone(tmp_path: Path) -> None:
    """There is no name to fall back on; then Mender uses its own."""
    ca = CertificateAuthority("My CA")
    async with world(tmp_path, ca=ca, server=ca.server("x", san=["DNS:*.my-server.com"])) as w:
        await quiet(w)
        asked = request("GET", INVENTORY, host="a.my-server.com:1")
        (seen,) = await seen_of(w, asked, "a.my-server.com")
        assert seen.headers["x-forwarded-host"] == ("a.my-server.com:1",)
        asked = request("GET", INVENTORY, [("X-Forwarded-Host", "evil.example")], host="evil.example")
        (seen,) = await seen_of(w, asked, "a.my-server.com")
        assert "x-forwarded-host" not in seen.headers


async def test_name_in_the_subject_alone(tmp_path: Path) -> None:
    """As in the certificates of Mender's own document."""
    ca = CertificateAuthority("My CA")
    async with world(tmp_path, ca=ca, server=ca.server("my-server.com", san=())) as w:
        await quiet(w)
        for host, forwarded in {"my-server.com:1": "my-server.com:1", "evil.example": "my-server.com"}.items():
            assert (await ordinary(w, host)).headers["x-forwarded-host"] == (forwarded,)

r"""No request hides inside another: what two servers could frame in two ways is refused, or passed on in one way only.

Each case holds a request for `/api/management/smuggled`, or for `/api/devices/v1/smuggled` with headers of the attacker's
choice, where a lenient reader might see one. Mender must see nothing, or exactly the outer requests, framed so that RFC
9112 allows one reading.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import attempt, chunked, parse_requests, request
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

TARGET = "/api/devices/v1/x"
INNER = b"GET /api/management/smuggled HTTP/1.1\r\nHost: mender\r\n\r\n"
CLOSED = "Connection: close\r\n\r\n"


def post(headers: str, body: bytes = INNER, target: str = TARGET) -> bytes:
    """A request whose framing is in `headers`; lines end as they are written there."""
    return f"POST {target} HTTP/1.1\r\nHost: my-server.com\r\n{headers}{CLOSED}".encode("latin-1") + body


HIDDEN = b"0\r\n\r\n" + INNER
LENGTH = f"Content-Length: {len(HIDDEN)}\r\n"

REFUSED: dict[str, bytes] = {
    "CL and TE": post(f"{LENGTH}Transfer-Encoding: chunked\r\n", HIDDEN),
    "TE and CL": post(f"Transfer-Encoding: chunked\r\n{LENGTH}", HIDDEN),
    "CL 0 and TE": post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", HIDDEN),
    "two CLs": post(f"Content-Length: 0\r\nContent-Length: {len(INNER)}\r\n"),
    "two CLs, the larger first": post(f"Content-Length: {len(INNER)}\r\nContent-Length: 0\r\n"),
    "a list of CLs": post(f"Content-Length: 0, {len(INNER)}\r\n"),
    "CL +0": post("Content-Length: +0\r\n"),
    "CL -1": post("Content-Length: -1\r\n"),
    "CL 0x0": post("Content-Length: 0x0\r\n"),
    "CL 0 0": post("Content-Length: 0 0\r\n"),
    "CL of 30 digits": post(f"Content-Length: {'9' * 30}\r\n"),
    "CL with a space before the colon": post(f"Content-Length : {len(INNER)}\r\n"),
    "TE with a space before the colon": post("Transfer-Encoding : chunked\r\n", HIDDEN),
    "TE with a tab before the colon": post("Transfer-Encoding\t: chunked\r\n", HIDDEN),
    "TE identity": post("Transfer-Encoding: identity\r\n", HIDDEN),
    "TE identity and CL": post(f"Transfer-Encoding: identity\r\n{LENGTH}", HIDDEN),
    "TE xchunked": post("Transfer-Encoding: xchunked\r\n", HIDDEN),
    "TE chunked, identity": post("Transfer-Encoding: chunked, identity\r\n", HIDDEN),
    "TE identity, chunked": post("Transfer-Encoding: identity, chunked\r\n", HIDDEN),
    "TE gzip, chunked": post("Transfer-Encoding: gzip, chunked\r\n", HIDDEN),
    "TE twice": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", HIDDEN),
    "TE twice chunked": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HIDDEN),
    "TE with a vertical tab": post("Transfer-Encoding: \x0bchunked\r\n", HIDDEN),
    "TE with NUL": post("Transfer-Encoding: chunked\0\r\n", HIDDEN),
    "TE in quotes": post('Transfer-Encoding: "chunked"\r\n', HIDDEN),
    "TE empty": post("Transfer-Encoding: \r\n", HIDDEN),
    "a name with a space": post("X Y: 1\r\n"),
    "a name with NUL": post("X\0Y: 1\r\n"),
    "a value with NUL": post("X: 1\0\r\n"),
    "a value with a bare CR": post("X: 1\rTransfer-Encoding: chunked\r\n", HIDDEN),
    "no name": post(": 1\r\n"),
    "no colon": post("X\r\n"),
    "a first line that is folded": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n" + INNER,
    "chunk size with a sign": post("Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n" + INNER),
    "chunk size 0x0": post("Transfer-Encoding: chunked\r\n", b"0x0\r\n\r\n" + INNER),
    "chunk size of 20 digits": post("Transfer-Encoding: chunked\r\n", b"f" * 20 + b"\r\n" + INNER),
    "no chunk size": post("Transfer-Encoding: chunked\r\n", b"\r\n" + INNER),
    "chunk longer than its size": post("Transfer-Encoding: chunked\r\n", b"1\r\nabc\r\n0\r\n\r\n" + INNER),
    "two hosts": b"GET /api/management/smuggled HTTP/1.1\r\nHost: my-server.com\r\nHost: mender\r\n\r\n",
    "no host": b"GET /api/devices/v1/x HTTP/1.1\r\n\r\n",
    "HTTP/1.0 with TE": post("Transfer-Encoding: chunked\r\n", HIDDEN).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
}

LENIENT: dict[str, tuple[bytes, int]] = {
    # RFC 9112 lets a server take these; then Mender must see the outer request alone, and nothing odd about it.
    "equal CLs": (post(f"Content-Length: {len(INNER)}\r\n" * 2), 1),
    "CL with zeros before": (post(f"Content-Length: 000{len(INNER)}\r\n"), 1),
    "TE in upper case": (post("Transfer-Encoding: CHUNKED\r\n", chunked(INNER)), 1),
    "a folded line": (post("X: 1\r\n Transfer-Encoding: chunked\r\n", HIDDEN), 2),
    "a folded TE": (post("Transfer-Encoding:\r\n chunked\r\n", HIDDEN), 2),
    "a folded line with a tab": (post("X: 1\r\n\tContent-Length: 5\r\n"), 2),
    "a bare LF": (post(f"X: 1\nContent-Length: {len(INNER)}\r\n"), 1),
    "bare LFs alone": (post(f"Content-Length: {len(INNER)}\r\n").replace(b"\r\n", b"\n"), 2),
    "a bare LF ends the head": (post("X: 1\n\n", HIDDEN), 2),
    "chunk extensions": (
        post("Transfer-Encoding: chunked\r\n", b"1;a=b\r\nx\r\n0;c\r\n\r\n" + INNER),
        2,
    ),
    "a chunk extension with a bare LF": (
        post("Transfer-Encoding: chunked\r\n", b"1;a\nx\r\n0\r\n\r\n" + INNER),
        2,
    ),
    "chunk lines with bare LFs": (post("Transfer-Encoding: chunked\r\n", b"1\nx\n0\n\n" + INNER), 2),
    "a trailer": (post("Transfer-Encoding: chunked\r\n", b"0\r\nContent-Length: 5\r\nX-Edge-A: b\r\n\r\n" + INNER), 2),
    "a request as body": (post(f"Content-Length: {len(INNER)}\r\n"), 1),
    "a request as chunk": (post("Transfer-Encoding: chunked\r\n", chunked(INNER)), 1),
    "a body of GET": (request("GET", TARGET, body=INNER), 1),
    "a request after it": (request("GET", TARGET, [("Connection", "keep-alive")]) + INNER, 2),
    "empty lines before it": (b"\r\n\r\n" + request("GET", TARGET), 1),
    "an upgrade": (request("GET", TARGET, [("Connection", "Upgrade"), ("Upgrade", "websocket")]) + INNER, 2),
    "an upgrade to h2c": (
        request(
            "GET", TARGET, [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAM")]
        )
        + INNER,
        2,
    ),
    "a WebSocket without its headers": (
        request(
            "GET", "/api/devices/v1/deviceconnect/connect", [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        )
        + INNER,
        1,
    ),
    "100-continue": (request("POST", TARGET, [("Expect", "100-continue")], b"{}"), 1),
    "CR LF in the target, encoded": (request("GET", f"{TARGET}%0d%0aX-Edge-A:%20b"), 1),
    "Connection names TE": (post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", chunked(INNER)), 1),
    "Connection names Content-Length": (
        post(f"Connection: content-length\r\nContent-Length: {len(INNER)}\r\n"),
        1,
    ),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        await eventually(lambda: running.log_lines("management API answers"))  # then the edge is quiet by itself
        yield running


def paths_served(w: World) -> list[str]:
    """What Mender's server itself took for requests."""
    return [call.path for call in w.lab.calls()]


@pytest.mark.parametrize("path", ["an ordinary route", "the auth route"])
@pytest.mark.parametrize("name", REFUSED)
async def test_refused(w: World, name: str, path: str) -> None:
    data = REFUSED[name]
    if path == "the auth route":
        data = data.replace(TARGET.encode(), AUTH_REQUESTS.encode())
    before, served = len(w.relay.seen), len(paths_served(w))
    tried = await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")), answers=None)
    assert w.relay.seen[before:] == b""
    assert paths_served(w)[served:] == []
    assert [answer.status for answer in tried.answers] in ([400], [404], [426], [501])
    assert b"management/smuggled" not in tried.data


@pytest.mark.parametrize("name", LENIENT)
async def test_refused_or_passed_on_in_one_way(w: World, name: str) -> None:
    data, at_most = LENIENT[name]
    before, served = len(w.relay.seen), len(paths_served(w))
    tried = await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")), answers=None)
    assert 1 <= len(tried.answers) <= at_most
    seen = parse_requests(bytes(w.relay.seen[before:]))
    assert [one.target for one in seen] == paths_served(w)[served:]
    for one in seen:
        assert one.target.startswith("/api/devices/v1/")
        assert "smuggled" not in one.target + str(one.headers)
        assert not any(header.startswith("x-edge-") for header in one.headers)

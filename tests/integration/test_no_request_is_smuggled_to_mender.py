r"""No request hides inside another: what two servers could frame in two ways is refused, or passed on in one way only.

Each case holds, where a lenient reader might see one, a request for `/api/management/smuggled`. Mender must see nothing
of the case, or its outer request alone, framed so that RFC 9112 allows one reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import Attempt, SeenRequest, attempt, chunked, parse_requests, request
from tests.world import world

pytestmark = pytest.mark.asyncio(loop_scope="module")

TARGET = "/api/devices/v1/x"
INNER = b"GET /api/management/smuggled HTTP/1.1\r\nHost: mender\r\nConnection: close\r\n\r\n"
HIDDEN = b"0\r\n\r\n" + INNER
LENGTH = f"Content-Length: {len(HIDDEN)}\r\n"


def post(headers: str, body: bytes = INNER) -> bytes:
    """A request whose framing is in `headers`; lines end as they are written there."""
    head = f"POST {TARGET} HTTP/1.1\r\nHost: my-server.com\r\nConnection: close\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def in_chunks(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked\r\n", body)


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
    "no name": post(": 1\r\n"),
    "no colon": post("X\r\n"),
    "a first line that is folded": post("").replace(b"\r\nHost", b"\r\n Host", 1),
    "no host": post("").replace(b"Host: my-server.com\r\n", b"", 1),
}

BROKEN_BODIES: dict[str, bytes] = {
    "no chunk size": in_chunks(b"\r\n" + INNER),
    "chunk size 0x0": in_chunks(b"0x0\r\n\r\n" + INNER),
    "chunk size of 20 digits": in_chunks(b"f" * 20 + b"\r\n" + INNER),
    "chunk lines with bare LFs": in_chunks(b"1\nx\n0\n\n" + INNER),
}
"""Behind a good head, which on an ordinary route may have gone on when the fault comes in."""

LENIENT: dict[str, bytes] = {
    "equal CLs": post(f"Content-Length: {len(INNER)}\r\n" * 2),
    "CL with zeros before": post(f"Content-Length: 000{len(INNER)}\r\n"),
    "TE in upper case": post("Transfer-Encoding: CHUNKED\r\n", chunked(INNER)),
    "TE of HTTP/1.0": in_chunks(HIDDEN).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a folded line": post("X: 1\r\n Transfer-Encoding: chunked\r\n", HIDDEN),
    "a folded line with a tab": post("X: 1\r\n\tContent-Length: 5\r\n"),
    "a folded TE": post("Transfer-Encoding:\r\n chunked\r\n", HIDDEN),
    "a bare CR": post("X: 1\rTransfer-Encoding: chunked\r\n", HIDDEN),
    "a bare LF": post(f"X: 1\nContent-Length: {len(INNER)}\r\n"),
    "bare LFs alone": post(f"Content-Length: {len(INNER)}\r\n", b"").replace(b"\r\n", b"\n") + INNER,
    "a bare LF ends the head": post("X: 1\n\n", HIDDEN),
    "chunk extensions": in_chunks(b"1;a=b\r\nx\r\n0;c\r\n\r\n" + INNER),
    "a chunk extension with a bare LF": in_chunks(b"1;a\nx\r\n0\r\n\r\n" + INNER),
    "a chunk size with a sign": in_chunks(b"-1\r\n\r\n" + INNER),
    "a chunk longer than its size": in_chunks(b"1\r\nabc\r\n0\r\n\r\n" + INNER),
    "a trailer": in_chunks(b"0\r\nContent-Length: 5\r\nX-Edge-A: b\r\n\r\n" + INNER),
    "a request as body": post(f"Content-Length: {len(INNER)}\r\n"),
    "a request as chunk": in_chunks(chunked(INNER)),
    "a body of GET": request("GET", TARGET, body=INNER),
    "a request after it": request("GET", TARGET, [("Connection", "keep-alive")]) + INNER,
    "a request after the end": request("GET", TARGET) + INNER,
    "empty lines before it": b"\r\n\r\n" + request("GET", TARGET),
    "two hosts": post("Host: mender\r\n"),
    "an upgrade": request("GET", TARGET, [("Connection", "Upgrade"), ("Upgrade", "websocket")]) + INNER,
    "an upgrade to h2c": request(
        "GET", TARGET, [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAM")]
    )
    + INNER,
    "100-continue": request("POST", TARGET, [("Expect", "100-continue")], b"{}"),
    "CR LF in the target, encoded": request("GET", f"{TARGET}?%0d%0aX-Edge-A:%20b"),
    "Connection names TE": post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", chunked(INNER)),
    "Connection names CL": post(f"Connection: content-length\r\nContent-Length: {len(INNER)}\r\n"),
    "Connection names Host": post(f"Connection: host\r\nContent-Length: {len(INNER)}\r\n"),
}


@dataclass(frozen=True)
class Case:
    """What became of a case."""

    tried: Attempt
    seen: list[SeenRequest]
    """By Mender's side of the edge."""
    served: list[str]
    """What Mender's server itself took for requests."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def cases(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Case]]:
    """All at once, each with a path of its own: to see a connection's end takes Envoy's grace of a second."""
    routes = {f"{name}, ordinary": data for name, data in (REFUSED | BROKEN_BODIES | LENIENT).items()}
    routes |= {f"{name}, auth": data for name, data in (REFUSED | BROKEN_BODIES).items()}
    async with world(tmp_path_factory.mktemp("world")) as w:
        device = w.client_context(w.ca.device("dev-1"))

        def marked(number: int, name: str, data: bytes) -> bytes:
            """The paths in it told apart from those of other cases."""
            if name.endswith(", auth"):
                data = data.replace(TARGET.encode(), f"{AUTH_REQUESTS}?{number}".encode())
            else:
                data = data.replace(TARGET.encode(), f"{TARGET}/{number}/".encode())
            # As long as before, since lengths of it have been counted.
            return data.replace(b"/smuggled HTTP", b"/%08d HTTP" % number)

        attempts = await asyncio.gather(
            *(
                attempt(w.edge.port, marked(number, name, data), device, answers=None)
                for number, (name, data) in enumerate(routes.items())
            )
        )
        seen = [one for connection in w.relay.connections for one in parse_requests(bytes(connection))]
        served = [call.path for call in w.lab.calls()]
        yield {
            name: Case(
                tried,
                [one for one in seen if belongs(one.target, number)],
                [path for path in served if belongs(path, number)],
            )
            for number, (name, tried) in enumerate(zip(routes, attempts, strict=True))
        }


def belongs(path: str, number: int) -> bool:
    """Whether a path is of the case of this number."""
    return f"/{number}/" in path or f"?{number}" in path or f"/{number:08d}" in path


@pytest.mark.parametrize("route", ["ordinary", "auth"])
@pytest.mark.parametrize("name", REFUSED)
async def test_refused(cases: dict[str, Case], name: str, route: str) -> None:
    case = cases[f"{name}, {route}"]
    assert (case.seen, case.served) == ([], [])
    assert case.tried.answer.status in (400, 501)


@pytest.mark.parametrize("name", BROKEN_BODIES)
async def test_a_broken_body_of_an_auth_request(cases: dict[str, Case], name: str) -> None:
    case = cases[f"{name}, auth"]
    assert (case.seen, case.served) == ([], [])
    assert case.tried.answer.status == 400


@pytest.mark.parametrize("name", BROKEN_BODIES)
async def test_a_broken_body_elsewhere(cases: dict[str, Case], name: str) -> None:
    """At the most Mender sees the outer request's head, never its end, and never the request hidden in the body."""
    case = cases[f"{name}, ordinary"]
    assert len(case.seen) <= 1
    assert all(one.target.startswith(f"{TARGET}/") and not one.whole for one in case.seen)
    assert all(path.startswith(f"{TARGET}/") for path in case.served)
    assert case.tried.answer.status in (400, 401, 404)  # Mender may answer the head alone


@pytest.mark.parametrize("name", LENIENT)
async def test_refused_or_passed_on_in_one_way(cases: dict[str, Case], name: str) -> None:
    """RFC 9112 lets a server take these; then Mender sees the outer request alone, and nothing odd about it."""
    case = cases[f"{name}, ordinary"]
    assert case.tried.answers
    assert case.served == [one.target for one in case.seen]
    for one in case.seen:
        assert one.target.startswith(f"{TARGET}/")
        assert not any(header.startswith("x-edge-") for header in one.headers)
        if not one.whole:
            # The head went on before the fault in the body showed; then the connection to Mender was cut.
            assert case.tried.answer.status == 400
            assert one.body in (b"", b"1\r\nx\r\n")
    assert len(case.seen) <= 1

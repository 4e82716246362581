"""Requests to Mender leave with nothing added, answers come back with nothing changed, and failures are told apart."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from multidict import CIMultiDict

from mtls_ambassador.mender.egress import Egress
from mtls_ambassador.mender.errors import UpstreamUnavailable
from tests.unit.mender.scripted_egress import answer


class Peer:
    """Answers on a Unix socket with given bytes; with None it never answers."""

    def __init__(self, reply: bytes | None) -> None:
        self.reply = reply
        self.seen = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                self.seen += chunk
                head, end, body = self.seen.partition(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                if end and len(body) >= length and self.reply is not None:
                    writer.write(self.reply)
                    await writer.drain()
                    return
        finally:
            writer.close()


@asynccontextmanager
async def egress_to(directory: Path, peer: Peer) -> AsyncIterator[Egress]:
    server = await asyncio.start_unix_server(peer, directory / "s")
    async with server, Egress(directory / "s", connections=100) as egress:
        yield egress


def reply(status: str, *lines: str, body: bytes = b"") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


async def test_nothing_is_added_to_a_request(tmp_path: Path) -> None:
    peer = Peer(reply("200 OK"))
    headers = CIMultiDict([("X-A", "1"), ("X-A", "2"), ("Authorization", "Bearer x")])
    async with egress_to(tmp_path, peer) as egress:
        await egress.request("POST", "/api/a%2Fb?c=d%20e", headers=headers, body=b"\x00body\n", within=5)
    head, _, body = peer.seen.partition(b"\r\n\r\n")
    assert body == b"\x00body\n"
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/a%2Fb?c=d%20e HTTP/1.1"
    assert sorted(lines[1:]) == ["Authorization: Bearer x", "Content-Length: 6", "Host: mender", "X-A: 1", "X-A: 2"]


async def test_nothing_is_changed_in_an_answer(tmp_path: Path) -> None:
    body = gzip.compress(b"x" * 1000, mtime=0)
    lines = ("X-A: 1", "X-A: 2", "Set-Cookie: a=b", "Content-Encoding: gzip")
    async with egress_to(tmp_path, Peer(reply("418 ?", *lines, body=body))) as egress:
        found = await egress.request("GET", "/", headers={}, within=5)
    assert found.status == 418
    assert found.body == body
    assert found.headers.getall("x-a") == ["1", "2"]


async def test_redirects_are_answers(tmp_path: Path) -> None:
    async with egress_to(tmp_path, Peer(reply("302 Found", "Location: /elsewhere"))) as egress:
        assert (await egress.request("POST", "/", headers={}, body=b"x", within=5)).status == 302


async def test_cookies_are_not_kept(tmp_path: Path) -> None:
    peer = Peer(reply("200 OK", "Set-Cookie: JWT=secret"))
    async with egress_to(tmp_path, peer) as egress:
        for _ in range(2):
            await egress.request("GET", "/", headers={}, within=5)
    assert b"secret" not in peer.seen


async def test_a_failure_of_the_way_is_not_an_answer_of_mender(tmp_path: Path) -> None:
    peer = Peer(reply("503 Service Unavailable", "x-edge-failure: upstream_reset{connection_refused} "))
    async with egress_to(tmp_path, peer) as egress:
        with pytest.raises(UpstreamUnavailable, match="connection_refused"):
            await egress.request("GET", "/", headers={}, within=5)


async def test_no_answer_in_time(tmp_path: Path) -> None:
    async with egress_to(tmp_path, Peer(None)) as egress:
        with pytest.raises(UpstreamUnavailable, match=r"did not answer within 0\.01 s"):
            await egress.request("GET", "/", headers={}, within=0.01)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 999999 ?\r\n\r\n",
    ],
)
async def test_broken_answers(tmp_path: Path, raw: bytes) -> None:
    async with egress_to(tmp_path, Peer(raw)) as egress:
        with pytest.raises(UpstreamUnavailable):
            await egress.request("GET", "/", headers={}, within=5)


async def test_no_socket(tmp_path: Path) -> None:
    async with Egress(tmp_path / "none", connections=100) as egress:
        with pytest.raises(UpstreamUnavailable, match="egress socket failed"):
            await egress.request("GET", "/", headers={}, within=5)


@pytest.mark.parametrize(("size", "fits"), [(1 << 20, True), ((1 << 20) + 1, False), (5 << 20, False)])
async def test_answers_have_a_limit(tmp_path: Path, size: int, fits: bool) -> None:
    async with egress_to(tmp_path, Peer(reply("200 OK", body=b"x" * size))) as egress:
        if fits:
            assert len((await egress.request("GET", "/", headers={}, within=5)).body) == size
            return
        with pytest.raises(UpstreamUnavailable, match="larger"):
            await egress.request("GET", "/", headers={}, within=5)


async def test_only_inside_its_block() -> None:
    with pytest.raises(RuntimeError):
        await Egress(Path("/nowhere"), connections=100).request("GET", "/", headers={}, within=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("86400", 300.0),
        ("9" * 400, 300.0),
        ("0", 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert answer(429, b"", Retry_After=text).retry_after == seconds
    assert answer(429).retry_after is None

"""Mender gets the very bytes that the device signed, whatever else stands in them, and the headers that came along."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.certificates import new_key
from tests.operated_lab import AUTH_REQUESTS, OperatedLab, SeenRequest
from tests.raw_device import RawDevice
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Scene:
    w: World
    mender: OperatedLab

    def last(self) -> SeenRequest:
        """The last auth request that Mender got."""
        return [request for request in self.mender.seen if request.path == AUTH_REQUESTS][-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    mender = OperatedLab()
    async with world(tmp_path_factory.mktemp("world"), lab=mender) as w:
        yield Scene(w, mender)


def spread(body: bytes) -> bytes:
    """The same JSON with white space wherever it may be, other escapes and another order."""
    fields = dict(reversed(json.loads(body).items()))
    text = json.dumps(fields, indent=3).replace("/", "\\/").replace("mac", "\\u006dac")
    return b"\n\t " + text.encode() + b" \r\n\n"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="Go client"),
        pytest.param({"tier": "standard"}, id="C++ client"),
        pytest.param({"tenant_token": "a.b.c"}, id="tenant"),
        pytest.param({"tenant_token": None, "tier": None}, id="nulls"),
        pytest.param(
            {"future": {"n": [1.50, 1e3, -0.0, 12345678901234567890]}, "ünï": "\u2028<&>"}, id="unknown fields"
        ),
    ],
)
async def test_body_is_byte_identical(scene: Scene, more: dict[str, object]) -> None:
    device = RawDevice(scene.w)
    for body in (device.body(**more), spread(device.body(**more)), device.body(**more).rstrip(b"\n")):
        assert (await device.authenticate(body=body)).status == 200
        assert scene.last().body == body
        assert body in scene.w.relay.seen


async def test_chunked_body_is_byte_identical(scene: Scene) -> None:
    device = RawDevice(scene.w)
    assert (await device.authenticate(chunked=True)).status == 200
    assert scene.last().body == device.body()


async def test_every_forwarding_of_one_request_is_the_same(scene: Scene) -> None:
    """A pending device's request goes to Mender twice: before and after it is accepted."""
    device = RawDevice(scene.w)
    scene.mender.knock(device.identity, device.holder)
    scene.mender.seen.clear()
    assert (await device.authenticate()).status == 200
    first, second = [request for request in scene.mender.seen if request.path == AUTH_REQUESTS]
    assert first == second
    assert first.body == device.body()


async def test_headers_pass_and_ours_do_not(scene: Scene) -> None:
    device = RawDevice(scene.w)
    spoofed = "X-Edge-Client-Cert: forged\r\nX-Edge-Client-Address: 1.2.3.4:5\r\nX-Edge-Failure: none\r\n"
    reply = await device.authenticate(
        headers=f"{spoofed}User-Agent: mender/3.4\r\nX-Of-Tomorrow: a\r\nX-Of-Tomorrow: b\r\nX-MEN-RequestID: r-1\r\n"
    )
    assert reply.status == 200
    headers = scene.last().headers
    names = {name for name, _ in headers}
    assert [value for name, value in headers if name == b"x-of-tomorrow"] == [b"a", b"b"]
    assert (b"user-agent", b"mender/3.4") in headers
    assert (b"content-type", b"application/json") in headers
    assert (b"authorization", b"Bearer ") in headers or (b"authorization", b"Bearer") in headers
    assert [value for name, value in headers if name == b"x-men-requestid"] == [b"r-1"]
    assert not {name for name in names if name.startswith((b"x-edge-", b"x-envoy-"))}
    assert b"accept-encoding" not in names, "nothing that the device did not say"
    assert b"forged" not in scene.w.relay.seen


async def test_header_that_is_not_ascii_stays_here(scene: Scene) -> None:
    """No client sends one, and none is a part of the request to Mender."""
    device = RawDevice(scene.w)
    assert (await device.authenticate(headers="X-Where: Zürich €\r\nX-When: now\r\n")).status == 200
    assert (b"x-when", b"now") in scene.last().headers
    assert b"x-where" not in {name for name, _ in scene.last().headers}


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa2048"])
async def test_every_kind_of_key(scene: Scene, kind: str) -> None:
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | str = kind
    device = RawDevice(scene.w, holder=scene.w.ca.device(f"device-{kind}", key=key))  # type: ignore[arg-type]
    assert (await device.authenticate()).status == 200
    assert scene.last().body == device.body()
    assert scene.mender.status_of(device.identity, device.holder) == "accepted"


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        pytest.param({"body": b"[]"}, (400, "malformed_request"), id="no object"),
        pytest.param({"signature": ""}, (400, "missing_signature"), id="no signature"),
        pytest.param({"signature": "AAAA"}, (401, "bad_signature"), id="bad signature"),
    ],
)
async def test_what_is_refused_here_never_reaches_mender(
    scene: Scene, refused: dict[str, object], expected: tuple[int, str]
) -> None:
    scene.mender.seen.clear()
    reply = await RawDevice(scene.w).authenticate(**refused)  # type: ignore[arg-type]
    assert reply.refusal == expected
    assert f"reason={expected[1]}" in reply.log
    assert scene.mender.seen == []


async def test_identity_nested_deeper_than_any_real_one_is_refused(scene: Scene) -> None:
    device = RawDevice(scene.w)
    scene.mender.seen.clear()
    deep = f'{{"mac":{"[" * 900}{"]" * 900}}}'
    assert (await device.authenticate(body=device.body(id_data=deep))).refusal == (400, "malformed_request")
    assert scene.mender.seen == []


async def test_a_body_beyond_the_limit_is_refused(scene: Scene) -> None:
    device = RawDevice(scene.w)
    scene.mender.seen.clear()
    reply = await device.authenticate(body=device.body(future="x" * 70000))
    assert reply.status == 413
    assert scene.mender.seen == []


async def test_new_key_is_what_is_compared_not_its_spelling(scene: Scene) -> None:
    """Line breaks in the PEM are not part of a key."""
    device = RawDevice(scene.w, auth_key=None, holder=scene.w.ca.device("crlf", key=new_key()))
    pem = device.holder.public_key_pem.decode().replace("\n", "\r\n")
    body = device.body(pubkey=pem)
    assert (await device.authenticate(body=body)).status == 200
    assert scene.last().body == body
    assert (await device.authenticate()).status == 200
    assert scene.mender.statuses(device.identity) == {device.holder.public_key_pem.decode(): "accepted"}

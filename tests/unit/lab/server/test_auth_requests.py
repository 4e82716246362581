"""Auth requests are checked in the order of the real server, with its codes and texts."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from tests.unit.lab.server.conftest import Start
from tests.unit.lab.server.peer import AUTH_REQUESTS, Answer, Peer, auth_request, key, pem, sign

IDENTITY = '{"mac":"52:54:00:12:34:56"}'
PEM = pem(key("old").public_key())


@dataclass(frozen=True)
class AuthRequest:
    """An auth request that is wrong in many ways at once, to be put right one by one."""

    body: bytes = b"{"
    content_type: str | None = "text/plain"
    signature: str | None = None

    def with_fields(self, **fields: object) -> AuthRequest:
        return replace(self, body=json.dumps(fields).encode())

    async def send(self, peer: Peer) -> Answer:
        headers = {}
        if self.content_type is not None:
            headers["Content-Type"] = self.content_type
        if self.signature is not None:
            headers["X-MEN-Signature"] = self.signature
        async with peer.http.post(
            peer.lab.url + AUTH_REQUESTS, data=self.body, headers=headers, skip_auto_headers=("Content-Type",)
        ) as found:
            names = {name.lower(): value for name, value in found.headers.items()}
            return Answer(found.status, await found.read(), names)


async def test_the_first_thing_that_is_wrong_is_told(peer: Peer) -> None:
    asked = AuthRequest()
    steps = [
        (replace(asked, content_type=None), 400, "Invalid value for Content-Type header"),
        (replace(asked, content_type="/"), 400, "Invalid value for Content-Type header"),
        (asked, 415, "Bad Content-Type, expected 'application/json'"),
        (
            asked := replace(asked, content_type="Application/JSON; charset=utf-8"),
            400,
            "failed to decode auth request: ",
        ),
        (asked.with_fields(id_data=1), 400, "failed to decode auth request: json: cannot unmarshal number"),
        (asked.with_fields(tenant_token=1), 400, "failed to decode auth request: json: cannot unmarshal number"),
        (
            replace(asked, body=b"{} x"),
            400,
            "failed to decode auth request: invalid character 'x' after top-level value",
        ),
        (asked.with_fields(), 400, "invalid auth request: id_data must be provided"),
        (replace(asked, body=b"null"), 400, "invalid auth request: id_data must be provided"),
        (asked.with_fields(id_data="[]"), 400, "invalid auth request: pubkey must be provided"),
        (asked.with_fields(id_data="[]", pubkey="x"), 400, "invalid auth request: cannot decode public key"),
        (asked.with_fields(id_data="[]", pubkey=PEM), 400, "invalid auth request: json: cannot unmarshal"),
        (asked := asked.with_fields(id_data=IDENTITY, pubkey=PEM), 400, "missing request signature header"),
        (replace(asked, signature="x"), 401, "signature verification failed"),
        (replace(asked, signature=sign(key("other"), asked.body)), 401, "signature verification failed"),
        (replace(asked, signature=sign(key("old"), asked.body + b"\n")), 401, "signature verification failed"),
    ]
    for request, status, text in steps:
        found = await request.send(peer)
        assert (found.status, found.error[: len(text)]) == (status, text)
    assert peer.lab.devices() == []  # nothing so far left a trace
    good = replace(asked, signature=sign(key("old"), asked.body))
    found = await good.send(peer)
    assert (found.status, found.error) == (401, "dev auth: unauthorized")
    (device,) = peer.lab.devices()
    assert (device.status, device.identity) == ("pending", json.loads(IDENTITY))
    peer.lab.set_status(device.id, device.auth_sets[0].id, "accepted")
    found = await good.send(peer)
    assert (found.status, found.headers["content-type"]) == (200, "application/jwt")
    assert len(found.text.split(".")) == 3


@pytest.mark.parametrize("name", ["rsa", "p256", "ed25519"])
async def test_every_kind_of_key_is_good(peer: Peer, name: str) -> None:
    assert await peer.alive(await peer.accepted({"serial": name}, name))


async def test_a_body_over_the_limit_is_refused(peer: Peer) -> None:
    body = io.BytesIO(b"{" + b" " * (1 << 20))
    found = await peer.call("POST", AUTH_REQUESTS, body, token="", X_MEN_Signature="x")
    assert (found.status, found.error) == (413, "http: request body too large")


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_chunked_body_is_read_whole_whatever_its_type(peer: Peer) -> None:
    body = auth_request(IDENTITY, "old")
    found = await peer.call(
        "POST",
        AUTH_REQUESTS,
        in_parts(body[:10], body[10:]),
        token="",
        Content_Type="text/plain",
        X_MEN_Signature=sign(key("old"), body),
    )
    assert found.error == "dev auth: unauthorized"


async def test_a_chunked_body_over_the_limit_is_refused(start: Start) -> None:
    async with start(request_size_limit=1000) as peer:
        found = await peer.call("POST", AUTH_REQUESTS, in_parts(*[b"x" * 100] * 11), token="")
        assert found.status == 413


async def test_the_body_is_read_as_go_reads_it(peer: Peer) -> None:
    await peer.preauthorize({"mac": "B"})
    fields = f'"id_data":"{{\\"mac\\":\\"A\\"}}","ID_DATA":"{{\\"mac\\":\\"B\\"}}","tier":7,"pubkey":{json.dumps(PEM)}'
    body = f"{{{fields}}}\n".encode()
    found = await peer.call("POST", AUTH_REQUESTS, body, token="", X_MEN_Signature=sign(key("old"), body))
    assert found.status == 200
    assert [device.identity for device in peer.lab.devices()] == [{"mac": "B"}]


async def test_one_device_is_known_by_whatever_form_its_identity_has(peer: Peer) -> None:
    for id_data in ('{"b":1,"a":2}', '{ "a": 2.0, "b": 1 }', '{"a":2,"b":1e0}'):
        body = auth_request(id_data, "old")
        await peer.call("POST", AUTH_REQUESTS, body, token="", X_MEN_Signature=sign(key("old"), body))
    assert len(peer.lab.devices()) == 1
    await peer.authenticate({"a": "2", "b": 1})
    assert len(peer.lab.devices()) == 2


async def test_an_identity_of_null_passes(peer: Peer) -> None:
    body = auth_request("null", "old")
    await peer.call("POST", AUTH_REQUESTS, body, token="", X_MEN_Signature=sign(key("old"), body))
    (device,) = peer.lab.devices()
    assert device.identity == {}
    found = await peer.call("GET", f"/api/management/v2/devauth/devices/{device.id}")
    assert found.json["identity_data"] is None


async def test_a_second_key_of_a_pending_device_is_a_second_set(peer: Peer) -> None:
    for name in ("old", "new", "old"):
        await peer.authenticate(json.loads(IDENTITY), name)
    (device,) = peer.lab.devices()
    assert [item.status for item in device.auth_sets] == ["pending", "pending"]

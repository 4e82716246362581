r"""An auth request that is not in its form never reaches Mender, neither by itself nor as a preauthorisation.

The device has a good certificate; only its request is bad. It gets the status and the reason that fit, one log line
says the same, and Mender's server has seen not a byte. Whatever two JSON parsers could read in two ways is bad: Go's
decoder, which Mender uses, takes the last of duplicate names and ignores case, even that of U+017F and U+212A.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import dsa, ed448, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mtls_ambassador.lab.auth_request import public_pem, sign
from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import Attempt, Headers, attempt, chunked, lines_about, log_field, request
from tests.certificates import Holder, new_key
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = ("Content-Type", "application/json")
Body = Callable[[Holder], bytes]


def document(holder: Holder, **changes: object) -> bytes:
    """A good auth request's body, with some fields changed, or left out where the change is None."""
    fields: dict[str, object] = {"id_data": '{"mac":"bad"}', "tenant_token": "", "pubkey": pem_of(holder)} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def pem_of(holder: Holder) -> str:
    return public_pem(holder.key.public_key())


def changed(**changes: object) -> Body:
    return lambda holder: document(holder, **changes)


def identity(text: str) -> Body:
    return changed(id_data=text)


def key(change: Callable[[str], str]) -> Body:
    """With the PEM text of the key changed."""
    return lambda holder: document(holder, pubkey=change(pem_of(holder)))


def text(change: Callable[[str], str]) -> Body:
    """With the whole text of the body changed."""
    return lambda holder: change(document(holder).decode()).encode("utf-8", "surrogatepass")


def with_member(member: str) -> Body:
    """With one more member, as it stands."""
    return text(lambda body: body[:-1] + f", {member}}}")


def labelled(label: str) -> Body:
    return key(lambda pem: pem.replace("PUBLIC KEY", label))


def another_keys_pem(public: x25519.X25519PublicKey | ed448.Ed448PublicKey | dsa.DSAPublicKey) -> Body:
    return changed(pubkey=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_key(holder: Holder) -> bytes:
    private = holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return document(holder, pubkey=private.decode())


def nested(depth: int) -> str:
    return '{"mac":' + "[" * depth + "]" * depth + "}"


MALFORMED: dict[str, Body] = {
    # no JSON object
    "empty body": lambda _: b"",
    "no JSON": lambda _: b"hello",
    "cut off": text(lambda body: body[:-1]),
    "array": text(lambda body: f"[{body}]"),
    "string": text(json.dumps),
    "null": lambda _: b"null",
    "number": lambda _: b"1",
    "empty object": lambda _: b"{}",
    "object after it": text(lambda body: body + "{}"),
    "comma after it": text(lambda body: body + ","),
    "NUL after it": text(lambda body: body + "\0"),
    "text before it": text(lambda body: "x" + body),
    "trailing comma": text(lambda body: body[:-1] + ",}"),
    "comment": text(lambda body: "/* */" + body),
    "single quotes": text(lambda body: body.replace('"', "'")),
    "control character": with_member('"x": "a\nb"'),
    "nested too deep": with_member('"x": ' + "[" * 30000 + "]" * 30000),
    # encodings
    "invalid UTF-8": lambda holder: document(holder).replace(b"bad", b"b\xe4d"),
    "overlong UTF-8": lambda holder: document(holder).replace(b"bad", b"b\xc1\xa1d"),
    "surrogate in UTF-8": text(lambda body: body.replace("bad", "\ud800")),
    "lone surrogate": with_member(r'"x": "\ud800"'),
    "lone surrogate in a name": with_member(r'"\udc00": 1'),
    "byte order mark": text(lambda body: "\ufeff" + body),
    "UTF-16": lambda holder: document(holder).decode().encode("utf-16"),
    "UTF-16 without a mark": lambda holder: document(holder).decode().encode("utf-16-le"),
    "UTF-32": lambda holder: document(holder).decode().encode("utf-32-be"),
    # numbers
    "NaN": with_member('"x": NaN'),
    "Infinity": with_member('"x": -Infinity'),
    "number beyond a double": with_member('"x": 1e400'),
    "integer beyond a double": with_member('"x": 1' + "0" * 400),
    "leading zero": with_member('"x": 01'),
    "hexadecimal": with_member('"x": 0x10'),
    # names
    "id_data twice": with_member(r'"id_data": "{\"mac\":\"other\"}"'),
    "pubkey twice": with_member('"pubkey": "x"'),
    "unknown name twice": with_member('"x": 1, "x": 1'),
    "ID_DATA beside id_data": with_member(r'"ID_DATA": "{\"mac\":\"other\"}"'),
    "Id_Data instead of id_data": text(lambda body: body.replace("id_data", "Id_Data")),
    "PubKey instead of pubkey": text(lambda body: body.replace("pubkey", "PubKey")),
    "pubkey with a Kelvin sign": text(lambda body: body.replace("pubkey", "pub\u212aey")),
    "pubkey with a Kelvin sign beside it": with_member('"pub\u212aey": "x"'),
    "the same, escaped": with_member(r'"pub\u212aey": "x"'),
    "tenant_token with a Kelvin sign": text(lambda body: body.replace("tenant_token", "tenant_to\u212aen")),
    "Tenant_Token": text(lambda body: body.replace("tenant_token", "Tenant_Token")),
    "two names that differ by a long s": with_member('"serial": 1, "\u017ferial": 1'),
    "two names that differ in case": with_member('"x": 1, "X": 1'),
    # identity data
    "no id_data": changed(id_data=None),
    "id_data empty": identity(""),
    "id_data an object": changed(id_data={"mac": "bad"}),
    "id_data a number": changed(id_data=1),
    "identity null": identity("null"),
    "identity array": identity('[{"mac":"bad"}]'),
    "identity string": identity('"bad"'),
    "identity number": identity("1"),
    "identity empty": identity("{}"),
    "identity no JSON": identity("mac=bad"),
    "identity with text after it": identity('{"mac":"bad"}x'),
    "identity with another after it": identity('{"mac":"bad"}{"mac":"good"}'),
    "identity with a name twice": identity('{"mac":"bad","mac":"good"}'),
    "identity with a name twice, one escaped": identity(r'{"mac":"bad","\u006dac":"good"}'),
    "identity with a name twice, inside": identity('{"mac":{"a":1,"a":2}}'),
    "identity with a lone surrogate": identity(r'{"mac":"\ud800"}'),
    "identity with NaN": identity('{"mac":NaN}'),
    "identity with too large a number": identity('{"mac":-1e309}'),
    "identity with a byte order mark": identity('\ufeff{"mac":"bad"}'),
    "identity with a control character": identity('{"mac":"b\nd"}'),
    "identity nested too deep": identity(nested(20000)),
    # other fields
    "tenant_token a number": changed(tenant_token=1),
    "tier a list": changed(tier=["standard"]),
    # keys
    "no pubkey": changed(pubkey=None),
    "pubkey empty": changed(pubkey=""),
    "pubkey a list": lambda holder: document(holder, pubkey=[pem_of(holder)]),
    "pubkey not PEM": changed(pubkey="hello"),
    "pubkey in base64 alone": key(lambda pem: "".join(pem.splitlines()[1:-1])),
    "pubkey twice in it": key(lambda pem: pem + pem),
    "pubkey and another": key(lambda pem: pem + public_pem(new_key().public_key())),
    "pubkey with text before": key(lambda pem: "x\n" + pem),
    "pubkey with text after": key(lambda pem: pem + "x"),
    "pubkey with PEM headers": key(lambda pem: pem.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1)),
    "pubkey cut off": key(lambda pem: pem[:-40]),
    "pubkey of zeros": key(lambda pem: "\n".join([pem.splitlines()[0], "A" * 64, pem.splitlines()[-1], ""])),
    "label RSA PUBLIC KEY": labelled("RSA PUBLIC KEY"),
    "label CERTIFICATE": labelled("CERTIFICATE"),
    "label public key": labelled("public key"),
    "label EC PRIVATE KEY": labelled("EC PRIVATE KEY"),
    "private key": private_key,
    "certificate": lambda holder: document(holder, pubkey=holder.pem.decode()),
}

NOT_FOR_MENDER: dict[str, Body] = {
    "X25519": another_keys_pem(x25519.X25519PrivateKey.generate().public_key()),
    "Ed448": another_keys_pem(ed448.Ed448PrivateKey.generate().public_key()),
    "DSA": another_keys_pem(dsa.generate_private_key(1024).public_key()),
}


@dataclass(frozen=True)
class HeaderCase:
    """A good body with odd headers."""

    headers: Callable[[str, str], Headers]
    """From the good signature and one by another key."""
    status: int
    reason: str


def flipped(signature: str) -> str:
    raw = bytearray(base64.b64decode(signature))
    raw[-1] ^= 1
    return base64.b64encode(raw).decode()


SIGNATURE = "X-MEN-Signature"
HEADERS: dict[str, HeaderCase] = {
    "no signature": HeaderCase(lambda *_: [JSON], 400, "missing_signature"),
    "empty signature": HeaderCase(lambda *_: [JSON, (SIGNATURE, "")], 400, "missing_signature"),
    "signature by another key": HeaderCase(lambda _, other: [JSON, (SIGNATURE, other)], 401, "bad_signature"),
    "signature with a bit flipped": HeaderCase(
        lambda good, _: [JSON, (SIGNATURE, flipped(good))], 401, "bad_signature"
    ),
    "signature not base64": HeaderCase(lambda *_: [JSON, (SIGNATURE, "ö!")], 401, "bad_signature"),
    "signature cut off": HeaderCase(lambda good, _: [JSON, (SIGNATURE, good[:-8])], 401, "bad_signature"),
    "signature of nothing": HeaderCase(lambda *_: [JSON, (SIGNATURE, "AAAA")], 401, "bad_signature"),
    "two signatures": HeaderCase(
        lambda good, other: [JSON, (SIGNATURE, good), (SIGNATURE, other)], 400, "malformed_request"
    ),
    "two good signatures": HeaderCase(
        lambda good, _: [JSON, (SIGNATURE, good), (SIGNATURE, good)], 400, "malformed_request"
    ),
    "two signatures, the first empty": HeaderCase(
        lambda good, _: [JSON, (SIGNATURE, ""), (SIGNATURE, good)], 400, "missing_signature"
    ),
    "two signatures in one": HeaderCase(
        lambda good, other: [JSON, (SIGNATURE, f"{good}, {other}")], 401, "bad_signature"
    ),
    "no content type": HeaderCase(lambda good, _: [(SIGNATURE, good)], 400, "malformed_request"),
    "text/plain": HeaderCase(
        lambda good, _: [("Content-Type", "text/plain"), (SIGNATURE, good)], 415, "unsupported_media_type"
    ),
    "application/json-seq": HeaderCase(
        lambda good, _: [("Content-Type", "application/json-seq"), (SIGNATURE, good)], 415, "unsupported_media_type"
    ),
    "a form": HeaderCase(
        lambda good, _: [("Content-Type", "application/x-www-form-urlencoded"), (SIGNATURE, good)],
        415,
        "unsupported_media_type",
    ),
    "two content types": HeaderCase(
        lambda good, _: [JSON, ("Content-Type", "text/plain"), (SIGNATURE, good)], 415, "unsupported_media_type"
    ),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def holder(w: World) -> Holder:
    return w.ca.device("dev-1")


async def send(w: World, holder: Holder, headers: Headers, body: bytes, method: str = "POST") -> Attempt:
    """Send it, and see that Mender hears nothing of it."""
    before = len(w.relay.seen)
    tried = await attempt(w.edge.port, request(method, AUTH_REQUESTS, headers, body), w.client_context(holder))
    assert len(w.relay.seen) == before, bytes(w.relay.seen[before:])
    return tried


async def expect(w: World, holder: Holder, tried: Attempt, status: int, reason: str) -> None:
    """The answer and the one log line say so."""
    content = tried.answer.json()
    assert (tried.answer.status, content["reason"]) == (status, reason)
    assert content["error"]
    assert content["request_id"] == tried.answer.header("x-men-requestid")
    (line,) = lines_about(w.log_text(), tried.address)
    assert line.split()[1] == "warning"
    assert log_field(line, "reason") == reason
    assert log_field(line, "status") == str(status)
    assert log_field(line, "serial") == holder.serial
    assert log_field(line, "request_id") == content["request_id"]


def signed(holder: Holder, body: bytes) -> Headers:
    return [JSON, (SIGNATURE, base64.b64encode(sign(holder.key, body)).decode())]


async def test_the_good_request_is_good(w: World, holder: Holder) -> None:
    """Else the others would prove nothing."""
    body = document(holder, id_data='{"mac":"good"}', unknown={"nested": [1, 2.5, None]})
    tried = await attempt(
        w.edge.port, request("POST", AUTH_REQUESTS, signed(holder, body), body), w.client_context(holder)
    )
    assert tried.answer.status == 200
    assert w.mender_device({"mac": "good"}).status == "accepted"


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_body(w: World, holder: Holder, name: str) -> None:
    body = MALFORMED[name](holder)
    tried = await send(w, holder, signed(holder, body), body)
    await expect(w, holder, tried, 400, "malformed_request")
    (line,) = lines_about(w.log_text(), tried.address)
    assert log_field(line, "detail")


@pytest.mark.parametrize("name", NOT_FOR_MENDER)
async def test_key_of_a_kind_that_mender_does_not_take(w: World, holder: Holder, name: str) -> None:
    body = NOT_FOR_MENDER[name](holder)
    await expect(w, holder, await send(w, holder, signed(holder, body), body), 400, "unsupported_key")


@pytest.mark.parametrize("depth", [90, 240, 320, 480, 900, 970, 985, 992, 996, 1000, 1100, 5000])
@pytest.mark.parametrize("where", ["identity", "body"])
async def test_nesting_never_becomes_a_fault_of_ours(w: World, where: str, depth: int) -> None:
    """Python's own limits are met somewhere on the way up; the request is refused or admitted, never a 500."""
    holder = w.ca.device(f"nested-{where}-{depth}")
    if where == "identity":
        body = document(holder, id_data=nested(depth))
    else:
        body = document(holder, id_data=f'{{"mac":"{depth}"}}')
        body = body[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"
    tried = await attempt(
        w.edge.port, request("POST", AUTH_REQUESTS, signed(holder, body), body), w.client_context(holder)
    )
    assert tried.answer.status in (200, 400)
    if tried.answer.status == 400:
        await expect(w, holder, tried, 400, "malformed_request")


@pytest.mark.parametrize("name", HEADERS)
async def test_bad_headers(w: World, holder: Holder, name: str) -> None:
    case, body = HEADERS[name], document(holder)
    good, other = (base64.b64encode(sign(key, body)).decode() for key in (holder.key, new_key()))
    counted = w.edge.outcomes.counts[case.reason]
    tried = await send(w, holder, case.headers(good, other), body)
    await expect(w, holder, tried, case.status, case.reason)
    assert w.edge.outcomes.counts[case.reason] == counted + 1


@pytest.mark.parametrize("signer", ["that key", "the certificate's key"])
async def test_another_key_in_the_body(w: World, holder: Holder, signer: str) -> None:
    other = new_key()
    body = document(holder, pubkey=public_pem(other.public_key()))
    signature = sign(other if signer == "that key" else holder.key, body)
    tried = await send(w, holder, [JSON, (SIGNATURE, base64.b64encode(signature).decode())], body)
    await expect(w, holder, tried, 401, "key_mismatch")


async def test_another_devices_signed_request(w: World, holder: Holder) -> None:
    """Who overhears a device's auth request can do nothing with it, lacking that device's certificate key."""
    victim = w.ca.device("victim")
    body = document(victim, id_data='{"mac":"victim"}')
    await expect(w, holder, await send(w, holder, signed(victim, body), body), 401, "key_mismatch")


@pytest.mark.parametrize("size", [65537, 10_000_000])
@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_body_too_large(w: World, holder: Holder, framing: str, size: int) -> None:
    body = document(holder).ljust(size)
    headers = [*signed(holder, body)]
    if framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
        body = chunked(*(body[start : start + 16384] for start in range(0, size, 16384)))
    tried = await send(w, holder, headers, body)
    assert tried.answer.status == 413
    content = tried.answer.json()
    assert content["error"] == "request body too large"
    await eventually(lambda: lines_about(w.log_text(), tried.address))
    (line,) = lines_about(w.log_text(), tried.address)
    assert log_field(line, "reason") == "body_too_large"
    assert log_field(line, "request_id") == content["request_id"]


async def test_largest_body_that_is_taken(w: World) -> None:
    holder = w.ca.device("large")
    body = document(holder, id_data='{"mac":"large"}').ljust(65536)
    tried = await attempt(
        w.edge.port, request("POST", AUTH_REQUESTS, signed(holder, body), body), w.client_context(holder)
    )
    assert tried.answer.status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods(w: World, holder: Holder, method: str) -> None:
    body = document(holder)
    tried = await send(w, holder, signed(holder, body), body, method)
    assert tried.answer.status == 404
    content = tried.answer.json()
    assert content["error"]
    assert content["request_id"]
    await eventually(lambda: lines_about(w.log_text(), tried.address))
    assert len(lines_about(w.log_text(), tried.address)) == 1

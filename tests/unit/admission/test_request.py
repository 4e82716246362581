"""Auth requests: what is accepted says to Mender what it says to the edge, and each refusal has its reason."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.request import AuthRequest, parse_auth_request, read_public_key, verify_signature
from mtls_ambassador.lab.auth_request import PrivateKey, sign
from mtls_ambassador.lab.server.godecode import as_struct, decode
from mtls_ambassador.lab.server.identity import from_text
from mtls_ambassador.lab.server.keys import KeyRefused
from mtls_ambassador.lab.server.keys import parse as mender_key
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import spki

# As keyword arguments these would be normalised: to a plain s, and to a plain k.
LONG_S: dict[str, Any] = {"\u017f": 1, "s": 2}
KELVIN: list[dict[str, Any]] = [{"pub\u212aey": "x"}, {"tenant_to\u212aen": "x"}]
MAC = '{"mac":"52:54:00:12:34:56"}'
JSON = ("application/json",)


@functools.cache
def key(name: str) -> PrivateKey:
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, 2048)
    if name.startswith("ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"p224": ec.SECP224R1(), "p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[name])


def pem(private: Any) -> str:
    text: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def body_of(name: str = "ed25519", **fields: Any) -> bytes:
    return json.dumps({"id_data": MAC, "pubkey": pem(key(name))} | fields).encode() + b"\n"


def parse(body: bytes, name: str = "ed25519", **options: Any) -> AuthRequest:
    given = {
        "signatures": [base64.b64encode(sign(key(name), body)).decode()],
        "content_types": JSON,
        "certificate_key": spki(key(name).public_key()),
    }
    return parse_auth_request(body, **{**given, **options})


def reason(body: bytes, name: str = "ed25519", **options: Any) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        parse(body, name, **options)
    return caught.value.reason


@pytest.mark.parametrize("name", ["rsa", "p224", "p256", "p384", "p521", "ed25519"])
def test_every_key_that_mender_takes(name: str) -> None:
    body = body_of(name)
    request = parse(body, name)
    assert request.identity.normal_form == MAC
    assert request.public_key == spki(key(name).public_key())
    assert request.public_key_pem == pem(key(name)) == mender_key(pem(key(name))).pem
    assert request.body == body


def test_unknown_fields_are_not_looked_at() -> None:
    body = body_of(tenant_token="", tier="standard", of_tomorrow=[{"ID": 1}])
    assert parse(body).body == body
    assert parse(body_of(tenant_token=None, tier=None)).identity.normal_form == MAC


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        " Application/JSON ",
        'application/json; charset="UTF-8"',
        "application/json;",
    ],
)
def test_content_types_that_are_json(content_type: str) -> None:
    assert parse(body_of(), content_types=[content_type]).identity.normal_form == MAC


def test_content_types_that_are_not() -> None:
    for content_type in ("", "text/plain", "application/jsonp", "text/plain; application/json"):
        assert reason(body_of(), content_types=[content_type]) is RefusalReason.UNSUPPORTED_MEDIA_TYPE
    assert reason(body_of(), content_types=[]) is RefusalReason.MALFORMED
    assert reason(body_of(), content_types=[*JSON, *JSON]) is RefusalReason.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"{",
        b"\xff",
        b'{"a":"\xff"}',
        body_of() + b"{}",
        body_of(id_data=None),
        body_of(id_data=""),
        body_of(id_data="{}"),
        body_of(id_data="[]"),
        body_of(id_data="null"),
        body_of(id_data={"mac": 1}),
        body_of(id_data=7),
        body_of(id_data='{"a":1,"a":2}'),
        body_of(pubkey=None),
        body_of(pubkey=""),
        body_of(pubkey=["x"]),
        body_of(tenant_token=7),
        body_of(tier={}),
        body_of(tenant_token=["a"]),
        body_of(tier=True),
        body_of(ID_DATA=MAC),
        body_of(Pubkey="x"),
        body_of(TENANT_TOKEN="x"),
        body_of(Tier="x"),
        body_of(a=1, A=2),
        body_of(**LONG_S),
        *(body_of(**fields) for fields in KELVIN),
        b'{"id_data":"x",' + body_of()[1:],
        body_of(x="\ud800"),
        json.dumps({"ID_DATA": MAC, "pubkey": pem(key("ed25519"))}).encode(),
    ],
)
def test_malformed(body: bytes) -> None:
    assert reason(body) is RefusalReason.MALFORMED


P256_LINES = pem(key("p256")).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "-----BEGIN PUBLIC KEY-----",
        pem(key("p256")) + pem(key("ed25519")),
        "junk\n" + pem(key("p256")),
        pem(key("p256")) + "junk",
        pem(key("p256")).replace("PUBLIC", "RSA PUBLIC"),
        pem(key("p256")).replace("PUBLIC", "EC"),
        pem(key("p256")).replace("-----\n", "-----\nProc-Type: 4\n\n", 1),
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        "\n".join([P256_LINES[0], P256_LINES[1][:20], P256_LINES[-1]]),
        "\n".join([P256_LINES[0], "AAAA", P256_LINES[-1]]),
        "\n".join([P256_LINES[0], "?" * 8, P256_LINES[-1]]),
        "\xa0" + pem(key("p256")),
        pem(key("p256")).replace("\n", "\\n"),
    ],
)
def test_what_is_not_one_pem_block_of_a_public_key(text: str) -> None:
    with pytest.raises(Refused) as caught:
        read_public_key(text)
    assert caught.value.reason is RefusalReason.MALFORMED
    assert reason(body_of(pubkey=text)) is RefusalReason.MALFORMED


def test_pem_layout_does_not_matter() -> None:
    spelled = "\n " + pem(key("p256")).replace("\n", " \t\r\n")
    assert read_public_key(spelled) == key("p256").public_key()


@pytest.mark.parametrize(
    "private",
    [dsa.generate_private_key(1024), x25519.X25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()]
    + [ec.generate_private_key(curve) for curve in (ec.SECP256K1(), ec.SECP192R1(), ec.BrainpoolP256R1())],
    ids=["dsa", "x25519", "ed448", "secp256k1", "p192", "brainpool"],
)
def test_keys_that_mender_does_not_take(private: Any) -> None:
    with pytest.raises(KeyRefused):
        mender_key(pem(private))
    with pytest.raises(Refused) as caught:
        read_public_key(pem(private))
    assert caught.value.reason is RefusalReason.UNSUPPORTED_KEY


@pytest.mark.parametrize("form", [PublicFormat.CompressedPoint, PublicFormat.UncompressedPoint])
def test_a_key_has_one_encoding(form: PublicFormat) -> None:
    """A compressed point is the same key to us, and none to Mender."""
    public = key("p256").public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    point = public.public_bytes(Encoding.X962, form)
    bits = bytes([0x03, len(point) + 1, 0]) + point
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    der = bytes([0x30, len(algorithm) + len(bits)]) + algorithm + bits
    text = f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(der).decode()}-----END PUBLIC KEY-----\n"
    if form is PublicFormat.UncompressedPoint:
        assert read_public_key(text) == public
        return
    with pytest.raises(Refused) as caught:
        read_public_key(text)
    assert caught.value.reason is RefusalReason.MALFORMED


def test_signature_is_missing_or_given_twice() -> None:
    for signatures in ([], [""], ["", "AAAA"]):
        assert reason(body_of(), signatures=signatures) is RefusalReason.MISSING_SIGNATURE
    assert reason(body_of(), signatures=["AAAA", "AAAA"]) is RefusalReason.MALFORMED


@pytest.mark.parametrize("name", ["rsa", "p256", "ed25519"])
def test_signature_is_bad(name: str) -> None:
    body = body_of(name)
    good = base64.b64encode(sign(key(name), body)).decode()
    others = base64.b64encode(sign(key(f"{name}-2" if name != "p256" else "p384"), body)).decode()
    for signature in ("AAAA", "?", good[:-4], good + "AAAA", f" {good}", good.replace("=", ""), others, "\xff"):
        if signature != good:
            assert reason(body, name, signatures=[signature]) is RefusalReason.BAD_REQUEST_SIGNATURE
    assert reason(body.rstrip(b"\n"), name, signatures=[good]) is RefusalReason.BAD_REQUEST_SIGNATURE
    assert reason(body + b" ", name, signatures=[good]) is RefusalReason.BAD_REQUEST_SIGNATURE


def test_signature_needs_the_right_scheme() -> None:
    with pytest.raises(Refused):
        verify_signature(key("p256").public_key(), sign(key("ed25519"), b"x"), b"x")


def test_key_is_not_the_certificates() -> None:
    assert reason(body_of(), certificate_key=spki(key("p256").public_key())) is RefusalReason.KEY_MISMATCH
    assert parse(body_of(), certificate_key=None).identity.normal_form == MAC


def test_too_large() -> None:
    fits = body_of(x="")
    fits = body_of(x="x" * (65536 - len(fits)))
    assert len(fits) == 65536
    assert parse(fits).body == fits
    assert reason(fits + b"\n") is RefusalReason.BODY_TOO_LARGE


def test_refusals_come_in_a_fixed_order() -> None:
    """What is wrong first is what the device hears, whatever else is wrong."""
    wrong: dict[str, Any] = {"content_types": ["text/plain"], "signatures": [], "certificate_key": b""}
    assert reason(b"x" * 65537, **wrong) is RefusalReason.BODY_TOO_LARGE
    assert reason(b"x", **wrong) is RefusalReason.UNSUPPORTED_MEDIA_TYPE
    del wrong["content_types"]
    assert reason(b"x", **wrong) is RefusalReason.MALFORMED
    assert reason(body_of(pubkey="x"), **wrong) is RefusalReason.MALFORMED
    assert reason(body_of(), **wrong) is RefusalReason.MISSING_SIGNATURE
    wrong["signatures"] = ["AAAA"]
    assert reason(body_of(), **wrong) is RefusalReason.KEY_MISMATCH
    del wrong["certificate_key"]
    assert reason(body_of(), **wrong) is RefusalReason.BAD_REQUEST_SIGNATURE


def test_details_quote_no_secret() -> None:
    with pytest.raises(Refused) as caught:
        parse(body_of(tenant_token="very-secret", a=1, A=2))
    assert "very-secret" not in str(caught.value)


OTHER = '{"mac":"ff:ff:ff:ff:ff:ff"}'
NAMES = st.sampled_from(
    [
        "id_data",
        "ID_DATA",
        "Id_Data",
        "id\\u005fdata",
        "pubkey",
        "PUBKEY",
        "pub\u212aey",
        "pub\\u212aey",
        "tenant_token",
        "x",
    ]
)
MEMBERS = st.tuples(
    NAMES,
    st.sampled_from([json.dumps(MAC), json.dumps(OTHER), json.dumps(pem(key("p256"))), "null", "1", '"\\ud800"', "{}"]),
)
GOOD = [("id_data", json.dumps(MAC)), ("pubkey", json.dumps(pem(key("ed25519"))))]


@given(
    st.lists(MEMBERS, max_size=4),
    st.integers(0, 4),
    st.sampled_from([b"", b"\n", b" {}", b"\x00", b'{"id_data":"{}"}', b","]),
    st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=2)), max_size=2),
)
@example([("ID_DATA", json.dumps(OTHER))], 0, b"", [])
@example([("id_data", json.dumps(OTHER))], 0, b"", [])
@example([("id_data", "null")], 0, b"", [])
@example([("pub\u212aey", json.dumps(pem(key("p256"))))], 0, b"", [])
@example([], 0, b'{"id_data":"{}"}', [])
def test_mender_reads_the_identity_and_the_key_that_the_edge_read(
    members: list[tuple[str, str]], place: int, tail: bytes, changes: list[tuple[int, bytes]]
) -> None:
    """The security property of parsing: no accepted request is another device, or another key, to Mender."""
    fields = [*members[:place], *GOOD, *members[place:]]
    body = ("{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}").encode() + tail
    for offset, piece in changes:
        position = offset % (len(body) + 1)
        body = body[:position] + piece + body[position + len(piece) :]
    try:
        request = parse(body, certificate_key=None)
    except Refused:
        return
    theirs = as_struct(decode(body))
    assert from_text(theirs.string("id_data")).text == request.identity.normal_form
    assert mender_key(theirs.string("pubkey")).pem == request.public_key_pem

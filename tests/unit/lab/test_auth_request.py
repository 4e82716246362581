"""`lab.auth_request`: what it makes is what the real Go client sends, and what Mender verifies."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from mtls_ambassador.lab.auth_request import PrivateKey, PublicKey, SignedRequest, auth_request

MAC = {"mac": "52:54:00:12:34:56"}
KEYS: dict[str, PrivateKey] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "p224": ec.generate_private_key(ec.SECP224R1()),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
P256 = KEYS["p256"]


def verify(key: PublicKey, request: SignedRequest) -> None:
    signature = base64.b64decode(request.headers["X-MEN-Signature"], validate=True)
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, request.body, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, request.body, ec.ECDSA(hashes.SHA256()))
    else:
        key.verify(signature, request.body)


@pytest.mark.parametrize("kind", KEYS)
def test_is_signed_as_mender_verifies(kind: str) -> None:
    request = auth_request(KEYS[kind], MAC)
    public = serialization.load_pem_public_key(json.loads(request.body)["pubkey"].encode())
    assert public == KEYS[kind].public_key()
    verify(KEYS[kind].public_key(), request)
    with pytest.raises(InvalidSignature):
        verify(KEYS[kind].public_key(), replace(request, body=request.body.rstrip(b"\n")))


def test_has_the_go_clients_bytes() -> None:
    body = auth_request(P256, MAC, "TT").body.decode()
    head, pem = body.split('"pubkey":')
    assert head == r'{"id_data":"{\"mac\":\"52:54:00:12:34:56\"}","tenant_token":"TT",'
    assert pem.startswith(r'"-----BEGIN PUBLIC KEY-----\nMFkw')
    assert pem.endswith('\\n-----END PUBLIC KEY-----\\n"}\n')


def test_sorts_and_escapes_identity_as_go_does() -> None:
    body = auth_request(P256, {"z": "a<b>&", "a": ["ü", "\u2028"]}).body.decode()
    assert body.startswith(r'{"id_data":"{\"a\":[\"ü\",\"\\u2028\"],\"z\":\"a\\u003cb\\u003e\\u0026\"}",')


def test_always_has_the_tenant_token_field_and_a_bearer() -> None:
    assert json.loads(auth_request(P256, MAC).body)["tenant_token"] == ""
    assert auth_request(P256, MAC).headers["Authorization"] == "Bearer "
    headers = auth_request(P256, MAC, "TT").headers
    assert headers["Authorization"] == "Bearer TT"
    assert headers["Content-Type"] == "application/json"


def test_takes_another_key_for_the_body() -> None:
    other = KEYS["rsa"].public_key()
    request = auth_request(P256, MAC, body_key=other)
    assert serialization.load_pem_public_key(json.loads(request.body)["pubkey"].encode()) == other
    verify(P256.public_key(), request)


def test_takes_a_raw_body_and_signs_it() -> None:
    request = auth_request(P256, MAC, body=b"[]")
    assert request.body == b"[]"
    verify(P256.public_key(), request)


def test_takes_a_signature() -> None:
    assert auth_request(P256, MAC, signature="!").headers["X-MEN-Signature"] == "!"


def test_shows_no_secret() -> None:
    assert "TT" not in repr(auth_request(P256, MAC, "TT"))

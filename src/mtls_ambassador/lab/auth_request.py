"""An auth request as a real client makes it, byte for byte. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
Attributes: TypeAlias = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class SignedRequest:
    """An auth request: the exact bytes that were signed, and the headers that go with them."""

    body: bytes = field(repr=False)  # both hold the tenant token
    headers: dict[str, str] = field(repr=False)


def auth_request(
    key: PrivateKey,
    identity: Attributes,
    tenant_token: str = "",
    *,
    body_key: PublicKey | None = None,
    body: bytes | None = None,
    signature: str | None = None,
) -> SignedRequest:
    r"""Build `POST /api/devices/v1/authentication/auth_requests` as the Go client 3.4 does, byte for byte.

    The body is `{"id_data":"{\"mac\":\"..\"}","tenant_token":"..","pubkey":"-----BEGIN PUBLIC KEY--.."}` and one
    newline, which is signed too.

    Args:
        key: Signs the body; its public half is in the body.
        identity: The identity data; a list stands for a name that the identity script prints repeatedly.
        tenant_token: Hosted Mender's tenant token, in the body and as bearer token; empty when there is none.
        body_key: Put this public key into the body instead of the signer's own.
        body: Sign and send these bytes instead.
        signature: The `X-MEN-Signature` to send instead of the true one.
    """
    if body is None:
        fields = {
            "id_data": go_json(dict(sorted(identity.items()))),
            "tenant_token": tenant_token,
            "pubkey": public_pem(key.public_key() if body_key is None else body_key),
        }
        body = f"{go_json(fields)}\n".encode()
    if signature is None:
        signature = base64.b64encode(sign(key, body)).decode("ascii")
    return SignedRequest(body, {**json_headers(tenant_token), "X-MEN-Signature": signature})


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Sign as Mender verifies (deviceauth `utils/crypto.go`).

    RSA: PKCS#1 v1.5 over SHA-256; ECDSA: DER over SHA-256; Ed25519: over the data itself.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    return key.sign(data)


def public_pem(key: PublicKey) -> str:
    """The key as PEM `PUBLIC KEY` (SubjectPublicKeyInfo), 64 characters a line and a newline at the end."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form).decode("ascii")


def json_headers(bearer: str) -> dict[str, str]:
    """The headers of a JSON request, with a token."""
    return {"Content-Type": "application/json", "Authorization": f"Bearer {bearer}"}


def go_json(value: object) -> str:
    r"""JSON as Go's encoder writes it: no spaces, UTF-8, and `\u` escapes for what HTML would mistake."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text

"""Tokens as only a test makes them: signed by whomever, saying whatever."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mtls_ambassador.tokens.base64url import decode, encode
from mtls_ambassador.tokens.keys import TokenKey

Sign = Callable[[bytes], bytes]


def new_token_key() -> TokenKey:
    """A key that may sign bound tokens."""
    return TokenKey.of(ec.generate_private_key(ec.SECP256R1()))


def pem(*keys: TokenKey) -> str:
    """The setting `token_key` for these."""
    return "".join(
        key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for key in keys
    )


def public_pem(key: TokenKey) -> bytes:
    """The public half."""
    return key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def hs256(secret: bytes) -> Sign:
    """Sign with a shared secret, such as a public key that a verifier takes for one."""
    return lambda message: hmac.digest(secret, message, hashlib.sha256)


def forge(sign: Sign, header: Mapping[str, Any], claims: Mapping[str, Any] | str) -> str:
    """A compact JWS."""
    body = claims if isinstance(claims, str) else json.dumps(claims)
    signed = f"{encode(json.dumps(header).encode())}.{encode(body.encode())}"
    return f"{signed}.{encode(sign(signed.encode()))}"


def header_of(key: TokenKey, **changes: Any) -> dict[str, Any]:
    """The header of an honest token; None leaves a field out."""
    return _without_none({"alg": "ES256", "kid": key.id, "typ": "JWT", **changes})


def claims_for(fingerprint: str, inner: str, **changes: Any) -> dict[str, Any]:
    """The claims of an honest token; None leaves one out."""
    usual = {"iss": "mtls-ambassador", "exp": int(time.time()) + 3600, "cnf": {"x5h": fingerprint}, "mtk": inner}
    return _without_none(usual | changes)


def claims_of(token: str) -> dict[str, Any]:
    """What a token says."""
    found = json.loads(decode(token.split(".")[1]))
    assert isinstance(found, dict)
    return found


def key_id_of(token: str) -> str:
    """Which key a token says that it was signed with."""
    found = json.loads(decode(token.split(".", maxsplit=1)[0]))["kid"]
    assert isinstance(found, str)
    return found


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not None}

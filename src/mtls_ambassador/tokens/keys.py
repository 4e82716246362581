"""Keys that sign bound tokens, and the JWK set by which Envoy verifies them. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mtls_ambassador.config.token_key import parse_token_keys
from mtls_ambassador.tokens.base64url import encode

_COORDINATE = 32
"""Bytes of a number on P-256."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One P-256 key."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    id: str
    """Its RFC 7638 thumbprint (SHA-256), base64url."""

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey) -> Self:
        """The key with its id."""
        # RFC 7638 section 3: the required members, in this order, without spaces.
        canonical = json.dumps(_point(private), sort_keys=True, separators=(",", ":"))
        return cls(private, encode(hashlib.sha256(canonical.encode()).digest()))

    def sign(self, message: bytes) -> bytes:
        """ES256 (RFC 7518 section 3.4): both numbers of the signature, 32 bytes each."""
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE)

    @property
    def public_jwk(self) -> dict[str, str]:
        """The public key as a JWK (RFC 7517)."""
        return {**_point(self.private), "kid": self.id, "alg": "ES256", "use": "sig"}


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """At least one key: the first signs, all verify."""

    keys: tuple[TokenKey, ...]

    @classmethod
    def parse(cls, pem: str) -> Self:
        """Read PEM text.

        Raises:
            ValueError: as `config.token_key.parse_token_keys`.
        """
        return cls.of(parse_token_keys(pem))

    @classmethod
    def of(cls, private: Sequence[ec.EllipticCurvePrivateKey]) -> Self:
        """These keys, in this order."""
        return cls(tuple(map(TokenKey.of, private)))

    @property
    def signing(self) -> TokenKey:
        """The key for new tokens."""
        return self.keys[0]

    @property
    def jwks(self) -> str:
        """The public keys as a JWK set (RFC 7517 section 5), JSON text."""
        return json.dumps({"keys": [key.public_jwk for key in self.keys]}, sort_keys=True, separators=(",", ":"))


def new_key_pem() -> bytes:
    """A new P-256 private key, PKCS #8 in PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _point(private: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    x, y = (encode(number.to_bytes(_COORDINATE)) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}

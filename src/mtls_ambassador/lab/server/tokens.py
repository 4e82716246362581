"""JSON Web Tokens signed with RS256: made and checked. Pure.

Source: RFC 7519, RFC 7515; Mender deviceauth and useradm (claims).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mtls_ambassador.errors import Error

_GO_ZERO_TIME = -62135596800  # 0001-01-01, what Go writes for a time that was never set


class TokenRefused(Error):
    """The text is no token of ours, or not valid any more."""


class Signer:
    """Signs and checks tokens with one RSA key.

    Args:
        pem: The private key, PKCS #8 PEM without password; None makes a new one.
    """

    def __init__(self, pem: str | None = None) -> None:
        if pem is None:
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            return
        key = load_pem_private_key(pem.encode(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TokenRefused("the signing key in the database is not an RSA key", "Start with a new database file.")
        self._key = key

    def pem(self) -> str:
        """The private key, PKCS #8 PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, claims: Mapping[str, object], **header: object) -> str:
        """A compact token with these claims and further `header` fields."""
        head = _encode(_json({"alg": "RS256", "typ": "JWT", **header}))
        signed = f"{head}.{_encode(_json(claims))}"
        return f"{signed}.{_encode(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def verify(self, token: str, now: float) -> dict[str, object]:
        """The claims of a token signed with this key.

        Args:
            token: Compact form.
            now: Seconds since the epoch; a token without `exp` does not expire.

        Raises:
            TokenRefused: it is not well-formed, signed by another key or with another algorithm, or expired.
        """
        signed, _, signature = token.rpartition(".")
        head, _, body = signed.partition(".")
        try:
            header, claims = json.loads(_decode(head)), json.loads(_decode(body))
            self._key.public_key().verify(_decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, binascii.Error, InvalidSignature):
            raise TokenRefused("invalid jwt") from None
        if not isinstance(header, dict) or header.get("alg") != "RS256" or not isinstance(claims, dict):
            raise TokenRefused("invalid jwt")
        expiry = claims.get("exp")
        if expiry is not None and (not isinstance(expiry, int) or expiry <= now):
            raise TokenRefused("invalid jwt")
        return claims


def device_claims(auth_set_id: str, device_id: str, now: float, lifetime: float) -> dict[str, object]:
    """What deviceauth puts into a device's token; `now` in seconds since the epoch, `lifetime` in seconds."""
    return {
        "jti": auth_set_id,  # constant for an auth set: several tokens of one set share one row
        "sub": device_id,
        "iss": "Mender",
        "exp": math.ceil(now + lifetime),
        "iat": int(now),
        "nbf": _GO_ZERO_TIME,
        "mender.device": True,
        "mender.plan": "enterprise",
        "mender.trial": False,
        "mender.addons": [{"name": name, "enabled": True} for name in ("configure", "troubleshoot", "monitor")],
    }


def user_claims(token_id: str, user_id: str, now: float, expires: float | None) -> dict[str, object]:
    """What useradm puts into a session or personal access token; `expires` in seconds since the epoch or None."""
    expiry = {} if expires is None else {"exp": math.ceil(expires)}
    return {
        "jti": token_id,
        "sub": user_id,
        **expiry,
        "iat": int(now),
        "mender.user": True,
        "iss": "mender.useradm",
        "scp": "mender.*",
        "nbf": _GO_ZERO_TIME,
    }


def bearer(authorization: str) -> str:
    """The token in an Authorization header.

    Raises:
        TokenRefused: the header is empty or of another scheme.
    """
    if not authorization:
        raise TokenRefused("Authorization not present in header")
    words = authorization.split()
    if len(words) != 2 or words[0].lower() != "bearer":
        raise TokenRefused("malformed Authorization header")
    return words[1]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

"""A device's own token: it wraps Mender's, and is good for one certificate only. Pure.

Signed, not encrypted: whoever holds it can read Mender's token out of it. Envoy takes it only on connections of that
certificate; Mender itself never sees it.
"""

from __future__ import annotations

import json
import math
import re

from mtls_ambassador.errors import Error
from mtls_ambassador.tokens.base64url import decode, encode
from mtls_ambassador.tokens.keys import TokenKey

ISSUER = "mtls-ambassador"
WRAPPED = "mtk"
"""The claim that holds Mender's token."""
CONFIRMATION = ("cnf", "x5h")
"""Where the certificate's SHA-256 stands (`cnf`: RFC 7800), lower-case hex, as Envoy names a connection's.

Not RFC 8705's `x5t#S256`, since that is base64url, which Envoy has no word for.
"""

LONGEST = 16 * 1024
"""Characters that Mender's token may have: wrapped, it still fits into the headers that Envoy takes (60 kB)."""

# It becomes part of a header: what is no compact JWS (RFC 7515 section 7.1) must not get that far.
_COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LATEST = 1 << 53
"""Whole numbers above it have no exact place in JSON."""


class NotBindableError(Error):
    """What should be Mender's token is none that can be wrapped."""


def bind(token: bytes, certificate: str, key: TokenKey) -> bytes:
    """Wrap Mender's token for one certificate.

    Args:
        token: As Mender gave it: a compact JWS with an `exp`.
        certificate: SHA-256 of the device's certificate, lower-case hex.
        key: Signs.

    Returns:
        A compact JWS (ES256); it expires with Mender's.

    Raises:
        NotBindableError: the token has another form; the text never repeats it.
    """
    if len(token) > LONGEST:
        raise NotBindableError(f"Mender's token has {len(token)} bytes, more than {LONGEST}")
    if not _COMPACT.fullmatch(token):
        raise NotBindableError("Mender's answer is no JWT")
    text = token.decode("ascii")
    confirmed, digest = CONFIRMATION
    claims = {"iss": ISSUER, "exp": _expiry(text), confirmed: {digest: certificate}, WRAPPED: text}
    signed = f"{_part({'alg': 'ES256', 'kid': key.id, 'typ': 'JWT'})}.{_part(claims)}"
    return f"{signed}.{encode(key.sign(signed.encode()))}".encode()


def _expiry(token: str) -> int:
    """Seconds since the epoch (RFC 7519 section 4.1.4); the signature is Mender's own matter."""
    try:
        claims = json.loads(decode(token.split(".")[1]))
    except (ValueError, RecursionError):
        raise NotBindableError("Mender's token has claims that cannot be read") from None
    expiry = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or not 0 < expiry < _LATEST:
        raise NotBindableError("Mender's token does not say when it expires")
    return math.floor(expiry)


def _part(content: object) -> str:
    return encode(json.dumps(content, separators=(",", ":")).encode())

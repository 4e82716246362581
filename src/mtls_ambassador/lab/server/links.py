"""Download links that are good for a while and need no token. Pure.

Source: Mender deployments, model/signature.go (the links of configuration deployments): HMAC-SHA256 over method, path
and time of expiry, not over the host, so that a proxy may change that.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from mtls_ambassador.lab.server.refusals import Refusal

_EXPIRE, _SIGNATURE = "x-men-expire", "x-men-signature"


def sign_link(key: bytes, path: str, expires: float) -> str:
    """`path`, escaped as in a URL, with the query that opens it until `expires`, seconds since the epoch."""
    expire = expiry(expires)
    return f"{quote(path)}?{urlencode({_EXPIRE: expire, _SIGNATURE: _signature(key, path, expire)})}"


def check_link(key: bytes, path: str, query: Mapping[str, str], now: float) -> None:
    """Check the query of a request for `path`, not escaped, at `now`, seconds since the epoch.

    Raises:
        Refusal: 400 a parameter is missing or malformed, 403 it has expired or was not signed with `key`.
    """
    expire, signature = query.get(_EXPIRE, ""), query.get(_SIGNATURE, "")
    if not expire or not signature:
        raise Refusal(400, "invalid request parameters: cannot be blank.")
    try:
        expires = datetime.strptime(expire, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refusal(400, f"invalid request parameters: parameter '{_EXPIRE}' is not a valid timestamp") from None
    if now > expires.timestamp():
        raise Refusal(403, "URL expired")
    if not hmac.compare_digest(_signature(key, path, expire).encode(), signature.encode()):
        raise Refusal(403, "signature invalid")


def expiry(expires: float) -> str:
    """A time as links have it: RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _signature(key: bytes, path: str, expire: str) -> str:
    text = f"GET\n{path}\n{_EXPIRE}={expire}\ntenant_id=\n"
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

"""What Mender's device token says about the device. Read, not verified: Mender has just handed it out."""

from __future__ import annotations

import base64
import binascii
import json
import re

_DEVICE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def device_id(token: bytes) -> str | None:
    """Mender's id of the device: the claim `sub` (RFC 7519 section 4.1.2); None where the token does not say.

    Args:
        token: The body of Mender's 200 to an auth request.
    """
    parts = token.strip().split(b".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) and _DEVICE_ID.fullmatch(subject) else None

"""What Mender's tokens say. Read, not verified: Mender has just handed them out, to us or through us."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

_DEVICE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_TENANT = "mender.tenant"


@dataclass(frozen=True, slots=True)
class DeviceToken:
    """A device's token."""

    device_id: str | None
    """Mender's id of the device: the claim `sub`; None where the token does not say."""
    tenant: str
    """The tenant's id; empty on the open-source server, which has none."""


def read_device_token(token: bytes) -> DeviceToken:
    """Read a device's token (RFC 7519).

    Args:
        token: The body of Mender's 200 to an auth request.
    """
    claims = _claims(token)
    subject = claims.get("sub")
    known = isinstance(subject, str) and _DEVICE_ID.fullmatch(subject)
    return DeviceToken(subject if known else None, _tenant(claims))


def tenant_of(token: str) -> str | None:
    """The tenant of a user's token: empty where there are no tenants; None where the token cannot be read."""
    claims = _claims(token.encode())
    return _tenant(claims) if claims else None


def _tenant(claims: dict[str, Any]) -> str:
    tenant = claims.get(_TENANT)
    return tenant if isinstance(tenant, str) else ""


def _claims(token: bytes) -> dict[str, Any]:
    parts = token.strip().split(b".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}

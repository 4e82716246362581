"""Whose token it is that Mender gives a device, on a Mender Server with tenants. Pure."""

from __future__ import annotations

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.standing import Ground, Standing
from mtls_ambassador.mender.device_token import DeviceToken
from mtls_ambassador.refusals import RefusalReason

_RETRY_LOGIN = 30.0


def require_own_tenant(token: DeviceToken, standing: Standing, ours: str | None, *, logged_in: bool) -> None:
    """Refuse a token of another tenant of this Mender Server: the auth request says by its `tenant_token` whose.

    There the device's owner accepts any key for any identity, which says nothing about ours.

    Args:
        token: What Mender answered.
        standing: What the device's claim rests on.
        ours: The management user's tenant; None where it is not known.
        logged_in: Whether the management user ever was.

    Raises:
        Refused: `wrong_tenant`; `management_unavailable` while nobody knows which tenant is ours.
    """
    if ours is not None and token.tenant != ours:
        raise Refused(RefusalReason.WRONG_TENANT, f"Mender's token is for the tenant {token.tenant or 'none'!r}")
    if token.tenant and not logged_in and standing.ground is not Ground.OWN:
        raise Refused(
            RefusalReason.MANAGEMENT_UNAVAILABLE,
            "the management user has not logged in yet, so its tenant is not known",
            retry_after=_RETRY_LOGIN,
        )

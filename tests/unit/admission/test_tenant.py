"""Whose token counts, on a Mender Server with tenants and on one without."""

from __future__ import annotations

import pytest

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.standing import Ground, Standing
from mtls_ambassador.admission.tenant import require_own_tenant
from mtls_ambassador.mender.device_token import DeviceToken
from mtls_ambassador.refusals import RefusalReason


@pytest.mark.parametrize("ground", list(Ground))
@pytest.mark.parametrize(
    ("token", "ours", "logged_in", "reason"),
    [
        ("", "", True, None),
        ("", None, False, None),
        ("ours", "ours", True, None),
        ("theirs", "ours", True, RefusalReason.WRONG_TENANT),
        ("", "ours", True, RefusalReason.WRONG_TENANT),
        ("theirs", "", True, RefusalReason.WRONG_TENANT),
        ("theirs", None, True, None),
        ("theirs", None, False, RefusalReason.MANAGEMENT_UNAVAILABLE),
    ],
)
def test_whose_token_counts(
    ground: Ground, token: str, ours: str | None, *, logged_in: bool, reason: RefusalReason | None
) -> None:
    if reason is RefusalReason.MANAGEMENT_UNAVAILABLE and ground is Ground.OWN:
        reason = None  # whoever has the identity may come while we have not logged in
    assert refusal(token, ground, ours, logged_in=logged_in) is reason


def refusal(token: str, ground: Ground, ours: str | None, *, logged_in: bool) -> RefusalReason | None:
    try:
        require_own_tenant(DeviceToken("d-1", token), Standing(ground, ""), ours, logged_in=logged_in)
    except Refused as refused:
        return refused.reason
    return None

"""The state rules of deviceauth. Pure.

Source: Mender deviceauth, devices and auth sets (management API v2).
"""

from __future__ import annotations

from collections.abc import Iterable

from mtls_ambassador.lab.server.refusals import Refusal

ACCEPTED, PREAUTHORIZED, PENDING, REJECTED, NOAUTH = "accepted", "preauthorized", "pending", "rejected", "noauth"
SET_STATUSES = frozenset({ACCEPTED, PREAUTHORIZED, PENDING, REJECTED})
DEVICE_STATUSES = SET_STATUSES | {NOAUTH}

_PRECEDENCE = (ACCEPTED, PREAUTHORIZED, PENDING, REJECTED, NOAUTH)
_ALLOWED_FROM = {
    ACCEPTED: {PENDING, REJECTED},
    REJECTED: {PENDING, ACCEPTED},
    PENDING: {ACCEPTED, REJECTED},
}


def strongest(statuses: Iterable[str]) -> str:
    """The first of accepted, preauthorized, pending, rejected that occurs; else noauth."""
    found = set(statuses)
    return next((status for status in _PRECEDENCE if status in found), NOAUTH)


def device_status(sets: Iterable[str]) -> str:
    """The status of a device from those of its auth sets.

    Raises:
        Refusal: 500, more than one set is accepted, or more than one preauthorized: Mender calls that broken.
    """
    statuses = list(sets)
    if statuses.count(ACCEPTED) > 1 or statuses.count(PREAUTHORIZED) > 1:
        raise Refusal(500, "internal error")
    return strongest(statuses)


def check_transition(old: str, new: str) -> None:
    """Check that an operator may set an auth set from `old` to `new`.

    Raises:
        Refusal: 400, `new` is not a status to set, or not from `old`; a preauthorized set changes only by itself.
    """
    if new not in _ALLOWED_FROM:
        raise Refusal(400, "incorrect device status")
    if old not in _ALLOWED_FROM[new]:
        raise Refusal(400, "dev auth: bad request")


def status_may_change(old_set: str, new_set: str, device: str) -> bool:
    """Whether the device's status has to be aggregated anew when one of its sets goes from `old_set` to `new_set`."""
    return strongest((new_set, device)) != device or old_set == device

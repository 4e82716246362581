"""The admission table: what Mender's auth sets of a device mean for a key that Mender answered 401 to. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.request import read_public_key
from mtls_ambassador.admission.standing import Standing
from mtls_ambassador.mender.management import AuthSet, AuthSetStatus, MenderDevice
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import spki

_TRUSTED = frozenset({AuthSetStatus.ACCEPTED, AuthSetStatus.PREAUTHORIZED})


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept this pending auth set, then forward the request again."""

    auth_set_id: str
    leftovers: tuple[str, ...] = ()
    """Preauthorised sets of other keys, to be deleted: whoever came with one of them would take over again."""
    takes_over: bool = False
    """Whether another key was accepted or preauthorised before."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Touch nothing and refuse."""

    reason: RefusalReason
    why: str = ""
    """More for a person."""
    rule: str | None = None
    """The setting or operator's word that decided; None: neither."""


Decision = Accept | Refuse


def decide(device: MenderDevice | None, public_key: bytes, standing: Standing) -> Decision:
    """Decide on a key that Mender answered 401 to.

    A valid certificate never overrides what an operator decided, and displaces a key that Mender trusts only where its
    standing allows that.

    Args:
        device: The device with this identity, with all its auth sets; None if Mender has none (any more).
        public_key: SubjectPublicKeyInfo (DER) of the request's key.
        standing: What the claim rests on.
    """
    if device is None:
        # Removed: if it was somebody else's, the new key waits in Mender under another id.
        if not standing.may_claim:
            return _refuse(standing, standing.why)
        return Refuse(RefusalReason.MENDER_REFUSED)
    if device.decommissioning:
        return Refuse(RefusalReason.DECOMMISSIONING)
    ours = next((item for item in device.auth_sets if _key(item) == public_key), None)
    others = {item.status for item in device.auth_sets if item is not ours}
    statuses = others | ({ours.status} if ours else set())
    if AuthSetStatus.REJECTED in statuses and AuthSetStatus.ACCEPTED not in statuses:
        return Refuse(RefusalReason.REJECTED_BY_OPERATOR)
    if ours is not None and ours.status in (AuthSetStatus.ACCEPTED, AuthSetStatus.PREAUTHORIZED):
        # A preauthorised key that still gets 401 is over the device limit, as far as the open-source server goes.
        limited = ours.status is AuthSetStatus.PREAUTHORIZED
        return Refuse(RefusalReason.DEVICE_LIMIT if limited else RefusalReason.MENDER_REFUSED)
    if ours is not None and ours.status is AuthSetStatus.REJECTED:
        return Refuse(RefusalReason.KEY_SUPERSEDED)
    if others & _TRUSTED:
        if ours is None or ours.status is not AuthSetStatus.PENDING or not standing.may_take_over:
            return _refuse(standing, standing.why)
        if AuthSetStatus.PREAUTHORIZED in others and not standing.outranks_preauthorised:
            return _refuse(standing, f"Mender has a preauthorised key for it, which {standing.why} leaves alone")
        return Accept(ours.id, _preauthorised(device, ours), takes_over=True)
    if ours is not None and ours.status is AuthSetStatus.PENDING and others <= {AuthSetStatus.PENDING}:
        rivals = [item for item in device.auth_sets if item is not ours]
        first = all(_came_first(ours, rival) for rival in rivals)
        if standing.outranks_pending or (first and standing.may_claim):
            return Accept(ours.id)
        return _refuse(standing, standing.why if first else "another key came first")
    return Refuse(RefusalReason.MENDER_REFUSED)


def _refuse(standing: Standing, why: str) -> Refuse:
    return Refuse(standing.refusal, why, standing.rule)


def _preauthorised(device: MenderDevice, ours: AuthSet) -> tuple[str, ...]:
    return tuple(
        item.id for item in device.auth_sets if item is not ours and item.status is AuthSetStatus.PREAUTHORIZED
    )


def _came_first(ours: AuthSet, rival: AuthSet) -> bool:
    """Whether Mender saw our key before the rival's; without both times nobody can tell, and it did not."""
    return ours.created is not None and rival.created is not None and ours.created < rival.created


def _key(auth_set: AuthSet) -> bytes | None:
    """The set's key as DER; None for a key of a kind that no request of ours can have."""
    try:
        return spki(read_public_key(auth_set.public_key_pem))
    except Refused:
        return None

"""Why a certificate must not be issued, for what its CA issued before. Pure.

A certificate says whose a key is. Another one of the same subject takes the device's place at the edge with no human
(`rotation: same-subject`), so no request may have it for the asking; and a key is one device's, and no longer anybody's
once it is in strange hands.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mtls_ambassador.errors import Error
from mtls_ambassador.pki.entries import Entry, Kind

_AUTHORITIES = frozenset({Kind.ROOT, Kind.INTERMEDIATE})


class ConflictError(Error):
    """A certificate has the subject or the key of another one that the CA issued."""


def require_sound_key(entry: Entry, same_key: Iterable[Entry]) -> None:
    """Check that a key may ever be in such a certificate: what time, revocation or an operator's word do not change.

    Args:
        entry: The certificate that is to be issued.
        same_key: Everything that was issued for its key.

    Raises:
        ConflictError: the key was compromised, or it is a CA's, or a server's and the certificate is a device's.
    """
    for other in same_key:
        if other.revocation is not None and other.revocation.reason.is_compromise:
            raise ConflictError(
                f"the key for {_subject(entry)} is that of {_named(other)}, which was revoked for "
                f"{other.revocation.reason}: somebody else has it",
                "Make a new key, where it is used; of a certificate, with: mtls-ambassador pki renew --new-key",
            )
        if other.kind in _AUTHORITIES and entry.kind not in _AUTHORITIES:
            raise ConflictError(f"{_subject(entry)} has the key of a CA, {_named(other)}", _OWN_KEY)
        if other.kind is Kind.SERVER and entry.kind is Kind.DEVICE:
            raise ConflictError(f"{_subject(entry)} has the key of {_named(other)}, which is no device", _OWN_KEY)


def require_own_key(entry: Entry, same_key: Iterable[Entry], now: datetime) -> None:
    """Check that a key is not another device's; a server may have its key under several names.

    Args:
        entry: The certificate that is to be issued.
        same_key: Everything that was issued for its key.
        now: The current time, with its zone.

    Raises:
        ConflictError: a device of another subject has a good certificate for it.
    """
    for other in same_key:
        if other.kind is Kind.DEVICE and other.subject != entry.subject and _is_good(other, now):
            raise ConflictError(f"{_subject(entry)} has the key of {_named(other)}", _OWN_KEY)


def require_new_subject(entry: Entry, same_subject: Iterable[Entry], now: datetime) -> None:
    """Check that a device's subject is not somebody's already.

    Args:
        entry: The certificate that is to be issued.
        same_subject: Everything that was issued for its subject.
        now: The current time, with its zone.

    Raises:
        ConflictError: there is a good certificate of that subject.
    """
    for other in same_subject:
        if _is_good(other, now):
            raise ConflictError(
                f"{_subject(entry)} has a certificate already, serial {other.serial}: "
                "the edge would take the new one's holder for the same device",
                "Renew or revoke that one; or, if it is the same device, add --again.",
            )


def _is_good(entry: Entry, now: datetime) -> bool:
    # One that is pending may be in somebody's hands as well.
    return entry.revocation is None and entry.not_after > now


def _subject(entry: Entry) -> str:
    return entry.subject or "a certificate without a subject"


def _named(entry: Entry) -> str:
    return f"{_subject(entry)} ({entry.kind}, serial {entry.serial})"


_OWN_KEY = "Make a key of its own for each device and each server."

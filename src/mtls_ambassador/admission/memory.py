"""What was admitted lately, so that a known device costs no management call. Bounded, and good for a while only."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

Key = bytes


def admission_key(identity: str, auth_key: str, certificate: str) -> Key:
    """One admission: this identity (normal form), with this key, under this certificate (SHA-256 of both, hex)."""
    digest = hashlib.sha256(certificate.encode("ascii"))
    digest.update(bytes.fromhex(auth_key))
    digest.update(identity.encode())
    return digest.digest()


class AdmittedLately:
    """A bounded set whose members expire.

    Args:
        size: How many it holds; the one admitted longest ago goes first.
        lifetime: Seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, size: int, lifetime: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._lifetime = lifetime
        self._clock = clock
        self._until: OrderedDict[Key, float] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        until = self._until.get(key)
        if until is not None and until <= self._clock():
            del self._until[key]
            return False
        return until is not None

    def __len__(self) -> int:
        return len(self._until)

    def add(self, key: Key) -> None:
        """Note that Mender has just answered 200."""
        self._until[key] = self._clock() + self._lifetime
        self._until.move_to_end(key)
        while len(self._until) > self._size:
            self._until.popitem(last=False)

    def drop(self, key: Key) -> None:
        """Note that Mender has just answered anything else."""
        self._until.pop(key, None)

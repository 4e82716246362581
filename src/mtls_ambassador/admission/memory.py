"""Who was admitted lately, so that a known device costs no management call. Bounded, and good for a while only."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

Key = bytes

_MOVES = 10
"""How often one may come from elsewhere while he is remembered, before no more of it is told."""


def admission_key(identity: str, auth_key: str, certificate: str) -> Key:
    """One admission: this identity (normal form), with this key, under this certificate (SHA-256 of both, hex)."""
    digest = hashlib.sha256(certificate.encode("ascii"))
    digest.update(bytes.fromhex(auth_key))
    digest.update(identity.encode())
    return digest.digest()


class AdmittedLately:
    """A bounded memory of admissions, and of the host from which each was last entered in the ledger; they expire.

    Args:
        size: How many it holds; the one admitted longest ago goes first.
        lifetime: Seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, size: int, lifetime: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._lifetime = lifetime
        self._clock = clock
        self._admitted: OrderedDict[Key, tuple[float, str, int]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        admitted = self._admitted.get(key)
        if admitted is not None and admitted[0] <= self._clock():
            del self._admitted[key]
            return False
        return admitted is not None

    def __len__(self) -> int:
        return len(self._admitted)

    def add(self, key: Key, host: str) -> None:
        """Note that Mender has just answered 200 to somebody at `host`, who is entered."""
        self._admitted[key] = (self._clock() + self._lifetime, host, 0)
        self._admitted.move_to_end(key)
        while len(self._admitted) > self._size:
            self._admitted.popitem(last=False)

    def move(self, key: Key, host: str) -> str | None:
        """Note that one who is remembered comes from `host` now; for how long he is remembered stays as it was.

        Returns:
            Whence he came before; None: from there as well, or he is not remembered any more, or this was told often
            enough: nobody shall fill a log by going to and fro.
        """
        until, before, moves = self._admitted.get(key, (0.0, host, 0))
        if before == host or moves == _MOVES:
            return None
        self._admitted[key] = (until, host, moves + 1)
        return before

    def drop(self, key: Key) -> None:
        """Note that Mender has just answered anything else."""
        self._admitted.pop(key, None)

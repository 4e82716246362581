"""Several keys that claim one identity by turns: two devices that fight over it, or a clone and its original."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

_WINDOW = 600.0
_SWITCHES = 4
"""A device that was re-flashed changes its key once; two by turns change it with every try."""
_IDENTITIES = 10_000


@dataclass(slots=True)
class _Turns:
    """Changes of the key behind an identity."""

    key: str = ""
    at: deque[float] = field(default_factory=lambda: deque(maxlen=_SWITCHES))

    def note(self, key: str, now: float) -> None:
        if self.key and self.key != key:
            self.at.append(now)
        self.key = key

    def many(self, now: float) -> bool:
        return len(self.at) == _SWITCHES and self.at[0] > now - _WINDOW


@dataclass(slots=True)
class _Claims:
    every: _Turns = field(default_factory=_Turns)
    serious: _Turns = field(default_factory=_Turns)
    """Of those only that could bring the identity about."""
    told: float | None = None


class Contests:
    """Notices when the key behind an identity changes to and fro. Bounded; it forgets after a quiet while.

    Whoever could not get the identity anyway is told about, and changes nothing: else any two certificates could keep a
    third from its own rotation.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._claims: OrderedDict[bytes, _Claims] = OrderedDict()

    def note(self, identity: str, key: str, *, serious: bool) -> bool:
        """Note that somebody with `key` claims `identity`.

        Args:
            identity: Normal form.
            key: The auth key.
            serious: Whether it has the identity, or may take it over.

        Returns:
            Whether this is the moment to say that the identity is fought over: once when it begins, and once in a
            window for as long as it goes on.
        """
        name = _name(identity)
        claims = self._claims.setdefault(name, _Claims())
        self._claims.move_to_end(name)
        if len(self._claims) > _IDENTITIES:
            self._claims.popitem(last=False)
        now = self._clock()
        claims.every.note(key, now)
        if serious:
            claims.serious.note(key, now)
        if not claims.every.many(now) or (claims.told is not None and now - claims.told < _WINDOW):
            return False
        claims.told = now
        return True

    def fought_over(self, identity: str) -> bool:
        """Whether the key behind `identity` changed so often within the last ten minutes."""
        claims = self._claims.get(_name(identity))
        return claims is not None and claims.every.many(self._clock())

    def contested(self, identity: str) -> bool:
        """Whether it did so by keys that may have it, so that it would go to and fro."""
        claims = self._claims.get(_name(identity))
        return claims is not None and claims.serious.many(self._clock())


def _name(identity: str) -> bytes:
    """A stranger chooses the identity, and how long it is."""
    return hashlib.sha256(identity.encode()).digest()

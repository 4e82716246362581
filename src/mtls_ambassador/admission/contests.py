"""Several keys that claim one identity by turns: two devices that fight over it, or a clone and its original."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

_WINDOW = 600.0
_SWITCHES = 4
"""A device that was re-flashed changes its key once; two by turns change it with every try."""
_IDENTITIES = 10_000


@dataclass(slots=True)
class _Claims:
    key: str = ""
    switches: deque[float] = field(default_factory=lambda: deque(maxlen=_SWITCHES))
    told: float | None = None


class Contests:
    """Notices when the key behind an identity changes to and fro. Bounded; it forgets after a quiet while.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._claims: OrderedDict[str, _Claims] = OrderedDict()

    def note(self, identity: str, key: str) -> bool:
        """Note that somebody with `key` claims `identity`.

        Returns:
            Whether this is the moment to say that the identity is contested: once when it begins, and once in a
            window for as long as it goes on.
        """
        claims = self._claims.setdefault(identity, _Claims(key))
        self._claims.move_to_end(identity)
        if len(self._claims) > _IDENTITIES:
            self._claims.popitem(last=False)
        now = self._clock()
        if claims.key != key:
            claims.key = key
            claims.switches.append(now)
        if not self.contested(identity) or (claims.told is not None and now - claims.told < _WINDOW):
            return False
        claims.told = now
        return True

    def contested(self, identity: str) -> bool:
        """Whether the key behind `identity` changed so often within the last ten minutes."""
        claims = self._claims.get(identity)
        if claims is None or len(claims.switches) < _SWITCHES:
            return False
        return claims.switches[0] > self._clock() - _WINDOW

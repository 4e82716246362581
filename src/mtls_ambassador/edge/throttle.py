"""Keeping a scanner from flooding the log, without hiding that it was there. Pure, given the time."""

from __future__ import annotations


class Throttle:
    """A token bucket that counts what it holds back.

    Args:
        burst: How many pass at once.
        per_second: How many pass in the long run.
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._tokens = float(burst)
        self._last = 0.0
        self._held_back = 0

    def admit(self, now: float) -> int | None:
        """Whether one more passes at `now` (seconds, monotonic).

        Returns:
            None: it is held back. Else how many were held back since the last that passed.
        """
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_second)
        self._last = now
        if self._tokens < 1:
            self._held_back += 1
            return None
        self._tokens -= 1
        return self.take()

    def take(self) -> int:
        """How many were held back since this was last asked; for a summary when it is quiet again."""
        held_back, self._held_back = self._held_back, 0
        return held_back

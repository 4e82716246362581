"""Keeping a noisy peer from flooding the log or Mender, without hiding that it was there. Pure, given the time."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable


class Throttle:
    """A token bucket that counts what it holds back.

    Args:
        burst: How many pass at once.
        per_second: How many pass in the long run.
    """

    __slots__ = ("_burst", "_held_back", "_last", "_per_second", "_tokens")  # there may be 100,000 of them

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._tokens = float(burst)
        self._last = 0.0
        self._held_back = 0

    def admit(self, now: float, untold: int = 0) -> int | None:
        """Whether one more passes at `now` (seconds, monotonic).

        Args:
            now: The time.
            untold: How many another throttle has held back before this one: they are counted here.

        Returns:
            None: it is held back. Else how many were held back since the last that passed.
        """
        self._held_back += untold
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_second)
        self._last = now
        if self._tokens < 1:
            self._held_back += 1
            return None
        self._tokens -= 1
        return self.take()

    @property
    def wait(self) -> float:
        """Seconds from the last `admit` until one more would pass."""
        return max(0.0, (1 - self._tokens) / self._per_second)

    def take(self) -> int:
        """How many were held back since this was last asked; for a summary when it is quiet again."""
        held_back, self._held_back = self._held_back, 0
        return held_back


class ThrottleEach:
    """A bucket for each peer, so that a noisy one hides no other.

    Args:
        burst: How many of one peer pass at once.
        per_second: How many of one peer pass in the long run.
        peers: How many peers it remembers; the one not seen for longest is forgotten first.
    """

    def __init__(self, burst: int, per_second: float, *, peers: int = 10_000) -> None:
        self._burst = burst
        self._per_second = per_second
        self._peers = peers
        self._throttles: OrderedDict[Hashable, Throttle] = OrderedDict()
        self._forgotten = 0

    def admit(self, peer: Hashable, now: float, untold: int = 0) -> int | None:
        """As `Throttle.admit`, for one peer."""
        throttle = self._throttles.get(peer)
        if throttle is None:
            throttle = self._throttles[peer] = Throttle(self._burst, self._per_second)
            if len(self._throttles) > self._peers:
                self._forgotten += self._throttles.popitem(last=False)[1].take()
        self._throttles.move_to_end(peer)
        return throttle.admit(now, untold)

    def wait(self, peer: Hashable) -> float:
        """As `Throttle.wait`, for one peer; 0 for one that is not remembered."""
        throttle = self._throttles.get(peer)
        return throttle.wait if throttle else 0.0

    def take(self) -> int:
        """How many of all peers were held back and not yet told."""
        forgotten, self._forgotten = self._forgotten, 0
        return forgotten + sum(throttle.take() for throttle in self._throttles.values())


def network(address: str) -> str:
    """Whom an address and port stand for: an IPv4 address, or the /64 that an IPv6 host may choose its address from."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)

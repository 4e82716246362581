"""What a fleet of devices met: how many calls of each kind, how fast they were answered, and what failed. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

_STEP = math.log(1.02)
_KINDS_OF_ERRORS = 50


@dataclass(slots=True)
class Latencies:
    """Times in seconds, kept in buckets of 2 %, so that a day of them takes no more memory than a minute."""

    count: int = 0
    most: float = 0.0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Take one time."""
        self.count += 1
        self.most = max(self.most, seconds)
        self._buckets[math.ceil(math.log(max(seconds, 1e-6)) / _STEP)] += 1

    def quantile(self, part: float) -> float:
        """The time that `part` (0 to 1) of all do not exceed, at most 2 % too long; 0 where there is none."""
        rank = math.ceil(part * self.count)
        passed = 0
        for bucket in sorted(self._buckets):
            passed += self._buckets[bucket]
            if passed >= rank:
                return min(math.exp(bucket * _STEP), self.most)
        return 0.0


@dataclass(frozen=True, slots=True)
class KindSummary:
    """All calls of one kind; times in milliseconds."""

    count: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    statuses: Mapping[str, int]
    """How often which HTTP status came; `none` is no answer."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything up to now."""

    seconds: float
    kinds: Mapping[str, KindSummary]
    errors: Mapping[str, int]
    """What a device could not do, in words, and how often; most frequent first."""

    @property
    def failures(self) -> int:
        """How many errors there were."""
        return sum(self.errors.values())


class Statistics:
    """Counts while the devices run. One event loop; no locks."""

    def __init__(self) -> None:
        self._latencies: defaultdict[str, Latencies] = defaultdict(Latencies)
        self._statuses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._errors: Counter[str] = Counter()

    def call(self, kind: str, seconds: float, status: int | None) -> None:
        """Take one call.

        Args:
            kind: `authentication`, `inventory` and so on.
            seconds: From its beginning to the end of its answer.
            status: Its HTTP status; 0 for what has none, None for no answer.
        """
        self._latencies[kind].add(seconds)
        if status != 0:
            self._statuses[kind]["none" if status is None else str(status)] += 1

    def error(self, what: str) -> None:
        """Take one failure, in words that are the same for all of its kind."""
        if what not in self._errors and len(self._errors) >= _KINDS_OF_ERRORS:
            what = "of other kinds"
        self._errors[what] += 1

    def clear(self) -> None:
        """Forget everything: something else is counted from here on."""
        self._latencies.clear()
        self._statuses.clear()
        self._errors.clear()

    @property
    def calls(self) -> int:
        """How many HTTP calls there were."""
        return sum(statuses.total() for statuses in self._statuses.values())

    @property
    def failures(self) -> int:
        """How many errors there were."""
        return self._errors.total()

    def summary(self, seconds: float) -> Summary:
        """What was counted in `seconds`."""
        kinds = {kind: self._kind(kind, seconds) for kind in sorted(self._latencies)}
        return Summary(seconds, kinds, dict(self._errors.most_common()))

    def _kind(self, kind: str, seconds: float) -> KindSummary:
        found = self._latencies[kind]
        return KindSummary(
            count=found.count,
            per_second=found.count / seconds if seconds > 0 else 0.0,
            p50_ms=found.quantile(0.50) * 1000,
            p95_ms=found.quantile(0.95) * 1000,
            p99_ms=found.quantile(0.99) * 1000,
            max_ms=found.most * 1000,
            statuses=dict(sorted(self._statuses[kind].items())),
        )

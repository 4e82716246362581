"""What processes cost, from the kernel's own books: processor time and memory of a whole process tree."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CPUCLOCK_SCHED = 2  # of the process clock's id, see clock_getcpuclockid(3) and the kernel's posix-timers_types.h


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time in seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system

    def per(self, operations: int) -> Cpu:
        """The share of one operation."""
        return Cpu(self.user / operations, self.system / operations)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes."""

    rss: int
    pss: int
    """Pages that several processes share are counted in parts, so that sums over processes are true."""


class Processes:
    """A process and all its descendants, as they are now; those that come later are not counted.

    Args:
        root: The process whose tree it is.
    """

    def __init__(self, root: int) -> None:
        self.pids = tuple(_tree(root))

    def cpu_since(self, before: Mark) -> Cpu:
        """What they have used since `mark`.

        The sum comes from the process clocks, which count nanoseconds; `/proc/PID/stat`, which counts hundredths of a
        second, only says how it divides into user and system.
        """
        now = self.mark()
        used = (now.nanoseconds - before.nanoseconds) / 1e9
        user, system = now.user - before.user, now.system - before.system
        share = user / (user + system) if user + system else 0.5
        return Cpu(used * share, used * (1 - share))

    def mark(self) -> Mark:
        """The books now."""
        ticks = [_ticks(pid) for pid in self.pids]
        return Mark(
            sum(time.clock_gettime_ns(((~pid) << 3) | _CPUCLOCK_SCHED) for pid in self.pids),
            sum(user for user, _ in ticks),
            sum(system for _, system in ticks),
        )

    def memory(self) -> Memory:
        """Their resident memory now."""
        entries = [_rollup(pid) for pid in self.pids]
        return Memory(sum(entry["Rss"] for entry in entries), sum(entry["Pss"] for entry in entries))

    def memory_by_name(self) -> dict[str, Memory]:
        """The same, by the name of the program, without its version."""
        found: dict[str, Memory] = {}
        for pid in self.pids:
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip().rstrip(".0123456789")
            entry, so_far = _rollup(pid), found.get(name, Memory(0, 0))
            found[name] = Memory(so_far.rss + entry["Rss"], so_far.pss + entry["Pss"])
        return found


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the books of some processes."""

    nanoseconds: int
    user: int
    system: int


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="utf-8").split():
            yield from _tree(int(child))


def _ticks(pid: int) -> tuple[int, int]:
    """`utime` and `stime` of /proc/PID/stat, see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def _rollup(pid: int) -> dict[str, int]:
    """/proc/PID/smaps_rollup in bytes."""
    entries: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]:
        name, _, value = line.partition(":")
        entries[name] = int(value.split()[0]) * 1024
    return entries


@dataclass(frozen=True, slots=True)
class Processors:
    """Who runs where, so that a peer's figures do not depend on what the load does."""

    peers: frozenset[int]
    load: frozenset[int]

    @classmethod
    def divided(cls) -> Processors:
        """Peers get the last processor this process may use, everything else the others, if there are any."""
        allowed = frozenset(os.sched_getaffinity(0))
        last = frozenset({max(allowed)})
        return cls(last, allowed - last or allowed)


PROCESSORS = Processors.divided()
"""As they were when the program began."""

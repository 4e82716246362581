"""What a fleet met, as a text for people (Markdown, as `docs/reference/performance.md` has it). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.aims import UNITS
from bench.report import markdown
from mtls_ambassador.lab.statistics import KindSummary, Summary


@dataclass(frozen=True)
class Sample:
    """Resident memory of the edge's programs in bytes, by their names."""

    when: str
    memory: Mapping[str, int]


@dataclass(frozen=True)
class Phase:
    """A part of a fleet's life.

    Attributes:
        name: What happened.
        summary: What the devices met.
        management_calls: What the edge asked of Mender's management API, and its logins.
        samples: Its memory.
        last_in_after: Seconds until the last device was authenticated; None where not all did at once.
        away: Whether there was no edge for a part of it, so that devices failed.
    """

    name: str
    summary: Summary
    management_calls: int
    samples: tuple[Sample, ...]
    last_in_after: float | None = None
    away: bool = False


@dataclass(frozen=True)
class Life:
    """All that a fleet of one style went through, in order."""

    style: str
    devices: int
    phases: tuple[Phase, ...]

    @property
    def failures(self) -> int:
        """Errors while there was an edge."""
        return sum(phase.summary.failures for phase in self.phases if not phase.away)


def text(life: Life) -> str:
    """All figures of a life."""
    names = sorted({name for phase in life.phases for sample in phase.samples for name in sample.memory})
    kinds = ["phase", "calls", "count", "per s", "p50, ms", "p95, ms", "p99, ms", "longest, ms"]
    return "\n\n".join(
        (
            f"{life.devices:,} devices, `--style {life.style}`:",
            markdown([["phase", "seconds", "management calls", "last one in after, s", "errors"], *_phases(life)]),
            markdown([kinds, *_kinds(life)]),
            "Resident memory in MB of 10⁶ bytes:",
            markdown([["", *names], *_memory(life, names)]),
            *_errors(life),
        )
    )


def _phases(life: Life) -> Iterator[list[str]]:
    for phase in life.phases:
        last = "" if phase.last_in_after is None else f"{phase.last_in_after:.1f}"
        summary = phase.summary
        yield [phase.name, f"{summary.seconds:.1f}", f"{phase.management_calls:,}", last, f"{summary.failures:,}"]


def _kinds(life: Life) -> Iterator[list[str]]:
    for phase in life.phases:
        for name, kind in phase.summary.kinds.items():
            yield [phase.name, name, f"{kind.count:,}", f"{kind.per_second:,.1f}", *_times(kind)]


def _times(kind: KindSummary) -> list[str]:
    return [f"{milliseconds:,.0f}" for milliseconds in (kind.p50_ms, kind.p95_ms, kind.p99_ms, kind.max_ms)]


def _memory(life: Life, names: list[str]) -> Iterator[list[str]]:
    for phase in life.phases:
        for sample in phase.samples:
            sizes = [f"{sample.memory[name] / UNITS['MB']:,.1f}" if name in sample.memory else "" for name in names]
            yield [f"{phase.name}: {sample.when}", *sizes]


def _errors(life: Life) -> Iterator[str]:
    for phase in life.phases:
        if phase.summary.errors:
            yield _of(phase.name, phase.summary)


def _of(name: str, summary: Summary) -> str:
    return "\n".join((f"Errors, {name}:", "", *(f"- {count:,}: {what}" for what, count in summary.errors.items())))

"""What the edge should reach, and whether it does in a run. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.rounds import Results, median

BESIDE = ("nginx", "haproxy")
BARE = "bare Envoy"
EDGE = "edge"


@dataclass(frozen=True)
class Judgement:
    """One aim, and what was measured, as people write it."""

    aim: str
    here: str
    met: bool


_OF_THE_BETTER = {"new connection": 0.70, "keep-alive request": 3.0, "download": 0.75}
_OF_BARE = {"new connection": 1.10}
_MEMORY = {"idle connection": ("idle connection", 25, "kB"), "at rest": ("whole product at rest", 130, "MB")}
UNITS = {"kB": 1e3, "MB": 1e6}


def judged(results: Results) -> Iterator[Judgement]:
    """All aims of which this run has figures. The medians count, as they are: nothing is rounded before."""
    for operation, by_peer in results.cpu.items():
        medians = {peer: median(figures).total for peer, figures in by_peer.items()}
        for aims, ratio, whom in (
            (_OF_THE_BETTER, to_the_better(medians), "the better of nginx and HAProxy"),
            (_OF_BARE, to_bare(medians), "a bare Envoy"),
        ):
            most = next((most for begin, most in aims.items() if operation.startswith(begin)), None)
            if ratio is not None and most is not None:
                yield Judgement(f"{operation}: at most {most:.2f} of {whom}", f"{ratio:.3f}", ratio <= most)
    for what, (name, most, unit) in _MEMORY.items():
        if sizes := results.memory.get(what, {}).get(EDGE):
            here = statistics.median(sizes) / UNITS[unit]
            yield Judgement(f"{name}: at most {most} {unit}", f"{here:.1f} {unit}", here <= most)


def to_the_better(medians: Mapping[str, float]) -> float | None:
    """The edge's figure, in that of the better of those beside it."""
    beside = [medians[peer] for peer in BESIDE if peer in medians]
    return _ratio(medians.get(EDGE), min(beside) if beside else None)


def to_bare(medians: Mapping[str, float]) -> float | None:
    """The edge's figure, in that of a bare Envoy."""
    return _ratio(medians.get(EDGE), medians.get(BARE))


def _ratio(of: float | None, to: float | None) -> float | None:
    """None too where a run was so short that the kernel's books say zero, or that memory shrank."""
    return of / to if of is not None and to is not None and to > 0 else None

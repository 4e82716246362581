"""Figures as a text for people (Markdown, as `docs/reference/performance.md` has it) and as JSON for programs. Pure."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import aims
from bench.measure import Cpu
from bench.rounds import Results, median

_RATIOS = ("edge ÷ best of nginx, haproxy", "edge ÷ bare Envoy")
_CONNECTION = "new connection, TLS {}, {}"


@dataclass(frozen=True)
class Facts:
    """Where figures come from.

    Attributes:
        date: Of the run.
        machine: `rounds.machine`.
        versions: What was compared.
        amounts: How much of each was done.
        seconds: How long the run took.
        load: Processes that wanted to run, in the minute before and in its last one.
    """

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    amounts: Mapping[str, Any]
    seconds: int
    load: tuple[float, float]


def text(results: Results, peers: Sequence[str], facts: Facts) -> str:
    """Where the figures come from, all of them with the edge's ratios, and the aims."""
    cpu = [_cpu_row(operation, by_peer, peers) for operation, by_peer in results.cpu.items()]
    memory = [_memory_row(what, by_peer, peers) for what, by_peer in results.memory.items()]
    differences = list(_differences(results, peers))
    judged = [[each.aim, each.here, "met" if each.met else "missed"] for each in aims.judged(results)]
    parts = [
        _origin(facts),
        "Processor time per operation in µs: median of the rounds (user + system), lowest to highest round.",
        markdown([["", *peers, *_RATIOS], *cpu]),
        "Resident memory (RSS, where not said otherwise): median, lowest to highest. 1 MB is 10⁶ bytes, 1 kB 10³.",
        markdown([["", *peers, *_RATIOS], *memory]),
    ]
    if differences:
        parts.append("What a key costs more, in µs of a new connection (differences of the medians above).")
        parts.append(markdown([["", *peers], *differences]))
    return "\n\n".join((*parts, markdown([["aim", "here", ""], *judged])))


def as_json(results: Results, facts: Facts) -> dict[str, Any]:
    """Everything, each round's figure too: seconds and bytes."""
    return {
        **dataclasses.asdict(facts),
        "cpu_seconds": {
            operation: {
                peer: {
                    "user": median(figures).user,
                    "system": median(figures).system,
                    "total": median(figures).total,
                    "rounds": [figure.total for figure in figures],
                }
                for peer, figures in by_peer.items()
            }
            for operation, by_peer in results.cpu.items()
        },
        "memory_bytes": {
            what: {peer: {"median": statistics.median(sizes), "rounds": sizes} for peer, sizes in by_peer.items()}
            for what, by_peer in results.memory.items()
        },
        "aims": [dataclasses.asdict(each) for each in aims.judged(results)],
    }


def _origin(facts: Facts) -> str:
    machine, amounts = facts.machine, facts.amounts
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return (
        f"{facts.date}; {machine['processors']} processors ({machine['architecture']}), Linux {machine['kernel']}, "
        f"load {facts.load[0]:.1f} before and {facts.load[1]:.1f} after. {versions}. "
        f"Rounds: {amounts['rounds']} (memory and download, everything started anew in each: {amounts['starts']})."
    )


def _cpu_row(operation: str, by_peer: Mapping[str, Sequence[Cpu]], peers: Sequence[str]) -> list[str]:
    cells = [_cpu(by_peer[peer]) if peer in by_peer else "" for peer in peers]
    return [operation, *cells, *_ratios({peer: median(figures).total for peer, figures in by_peer.items()})]


def _memory_row(what: str, by_peer: Mapping[str, Sequence[float]], peers: Sequence[str]) -> list[str]:
    unit = "kB" if what == "idle connection" else "MB"
    cells = [_size(by_peer[peer], aims.UNITS[unit]) if peer in by_peer else "" for peer in peers]
    medians = {peer: statistics.median(sizes) for peer, sizes in by_peer.items()}
    return [f"{what}, {unit}", *cells, *_ratios(medians)]


def _differences(results: Results, peers: Sequence[str]) -> Iterator[list[str]]:
    for version in ("1.2", "1.3"):
        plain, dear = (results.cpu.get(_CONNECTION.format(version, kind), {}) for kind in ("P-256", "RSA-2048"))
        both = plain.keys() & dear.keys()
        more = {peer: (median(dear[peer]).total - median(plain[peer]).total) * 1e6 for peer in both}
        if more:
            cells = [f"{more[peer]:,.0f}" if peer in more else "" for peer in peers]
            yield [f"RSA-2048 instead of P-256, TLS {version}", *cells]


def _cpu(rounds: Sequence[Cpu]) -> str:
    middle, totals = median(rounds), [cpu.total * 1e6 for cpu in rounds]
    parts = f"{middle.user * 1e6:,.0f} + {middle.system * 1e6:,.0f}"
    return f"{middle.total * 1e6:,.0f} ({parts}), {min(totals):,.0f} to {max(totals):,.0f}"


def _size(rounds: Sequence[float], unit: float) -> str:
    return f"{statistics.median(rounds) / unit:,.1f}, {min(rounds) / unit:,.1f} to {max(rounds) / unit:,.1f}"


def _ratios(medians: Mapping[str, float]) -> list[str]:
    ratios = (aims.to_the_better(medians), aims.to_bare(medians))
    return ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])

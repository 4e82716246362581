"""Figures as a table for people (Markdown) and as JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.measure import Cpu
from bench.rounds import Results, median

_BESIDE = ("nginx", "haproxy")
_BARE = "bare Envoy"
_EDGE = "edge"


def table(results: Results, peers: Sequence[str]) -> str:
    """Processor time per operation and memory, with the edge's ratios to the others."""
    head = ["", *peers, "edge ÷ best of nginx, haproxy", "edge ÷ bare Envoy"]
    rows = [_cpu_row(operation, by_peer, peers) for operation, by_peer in results.cpu.items()]
    memory = [_memory_row(what, by_peer, peers) for what, by_peer in results.memory.items()]
    return "\n\n".join(
        (
            "Processor time per operation in µs, user + system; the median of all rounds:",
            _markdown([head, *rows]),
            "Resident memory in kB of 1024 bytes (RSS, where not said otherwise):",
            _markdown([head, *memory]),
        )
    )


def as_json(results: Results, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, each round's figure too: seconds and bytes."""
    return {
        **facts,
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
    }


def _cpu_row(operation: str, by_peer: Mapping[str, Sequence[Cpu]], peers: Sequence[str]) -> list[str]:
    medians = {peer: median(figures) for peer, figures in by_peer.items()}
    cells = [_cpu(medians[peer]) if peer in medians else "" for peer in peers]
    return [operation, *cells, *_ratios({peer: cpu.total for peer, cpu in medians.items()})]


def _memory_row(what: str, by_peer: Mapping[str, Sequence[float]], peers: Sequence[str]) -> list[str]:
    medians = {peer: statistics.median(sizes) for peer, sizes in by_peer.items()}
    cells = [f"{medians[peer] / 1024:,.1f}" if peer in medians else "" for peer in peers]
    return [what, *cells, *_ratios(medians)]


def _cpu(cpu: Cpu) -> str:
    return f"{cpu.total * 1e6:,.0f} ({cpu.user * 1e6:,.0f} + {cpu.system * 1e6:,.0f})"


def _ratios(medians: Mapping[str, float]) -> tuple[str, str]:
    ours = medians.get(_EDGE)
    beside = [medians[peer] for peer in _BESIDE if peer in medians]
    best = f"{ours / min(beside):.2f}" if ours and beside else ""
    bare = f"{ours / medians[_BARE]:.2f}" if ours and _BARE in medians else ""
    return best, bare


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])

"""The bench's figures as they are printed: units, spread, ratios, and whether an aim is met."""

from __future__ import annotations

import dataclasses

from bench import report
from bench.measure import Cpu
from bench.rounds import SMOKE, Results

PEERS = ("nginx", "haproxy", "bare Envoy", "edge")
FACTS = report.Facts(
    date="2026-11-26",
    machine={"processors": "2", "kernel": "6.1", "architecture": "x86_64"},
    versions={"nginx": "1.22.1"},
    amounts=dataclasses.asdict(SMOKE),
    seconds=3,
    load=(0.25, 1.5),
)


def results() -> Results:
    found = Results()
    for peer, times in {"nginx": (1.0, 1.25, 1.5), "haproxy": (2.0, 2.0, 2.0), "edge": (0.75, 0.876, 0.9)}.items():
        for milliseconds in times:
            cpu = Cpu(milliseconds * 0.75e-3, milliseconds * 0.25e-3)
            found.add_cpu("new connection, TLS 1.3, P-256", peer, cpu)
    found.add_memory("at rest", "edge", 161_218 * 1024)
    found.add_memory("at rest", "nginx", 16_000_000)
    for size in (30_000, 31_000, 35_000):
        found.add_memory("idle connection", "edge", size)
    return found


def row(text: str, begin: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {begin}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_processor_time_is_in_microseconds_with_its_spread_and_ratio() -> None:
    found = row(report.text(results(), PEERS, FACTS), "new connection, TLS 1.3, P-256 |")
    assert found[1] == "1,250 (938 + 312), 1,000 to 1,500"
    assert found[3] == ""
    assert found[4] == "876 (657 + 219), 750 to 900"
    assert found[5:] == ["0.70", ""]


def test_memory_is_in_decimal_units() -> None:
    text = report.text(results(), PEERS, FACTS)
    assert row(text, "at rest, MB")[4] == "165.1, 165.1 to 165.1"
    assert row(text, "idle connection, kB")[4] == "31.0, 30.0 to 35.0"
    assert report.as_json(results(), FACTS)["memory_bytes"]["at rest"]["edge"]["median"] == 161_218 * 1024


def test_an_aim_is_judged_by_what_was_measured_not_by_what_is_printed() -> None:
    text = report.text(results(), PEERS, FACTS)
    assert row(text, "new connection, TLS 1.3, P-256: ")[1:] == ["0.701", "missed"]
    assert row(text, "idle connection: at most 25 kB")[1:] == ["31.0 kB", "missed"]
    assert row(text, "whole product at rest: at most 130 MB")[1:] == ["165.1 MB", "missed"]


def test_what_was_not_measured_is_not_judged() -> None:
    assert "| download" not in report.text(results(), PEERS, FACTS)


def test_what_rsa_adds_is_a_difference_of_medians() -> None:
    found = results()
    found.add_cpu("new connection, TLS 1.3, RSA-2048", "nginx", Cpu(1.5e-3, 0.5e-3))
    assert row(report.text(found, PEERS, FACTS), "RSA-2048 instead of P-256, TLS 1.3")[1:] == ["750", "", "", ""]


def test_says_where_the_figures_come_from() -> None:
    first = report.text(results(), PEERS, FACTS).splitlines()[0]
    assert first == (
        "2026-11-26; 2 processors (x86_64), Linux 6.1, load 0.2 before and 1.5 after. nginx 1.22.1. "
        "Rounds: 1 (memory and download, everything started anew in each: 1)."
    )

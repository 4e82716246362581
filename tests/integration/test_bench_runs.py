"""`make bench` and `python -m bench.fleet` run, and tell all that the documents need. Their figures are not judged."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import peers
from mtls_ambassador.lab.transport import Style

ROOT = Path(__file__).parents[2]
CONNECTIONS = [f"new connection, TLS {version}, {kind}" for version in ("1.2", "1.3") for kind in ("P-256", "RSA-2048")]
BY_ALL = [*CONNECTIONS, "keep-alive request", "download of 1 MB"]
BY_THE_EDGE = ["auth request of a known device", "first admission, connection included"]
MEMORY = ["at rest", "at rest (PSS)", "idle connection"]


async def run(*command: str) -> str:
    """What a program printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def rows(text: str) -> dict[str, list[str]]:
    """Every row of all Markdown tables, by its first cell."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.needs("nginx", "haproxy")
async def test_every_row_is_measured_and_printed(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    printed = rows(await run("bench", "--smoke", "--json", str(file)))
    found: dict[str, Any] = json.loads(file.read_text())
    every = sorted(peers.ALL)
    measured_at = {operation: sorted(figures) for operation, figures in found["cpu_seconds"].items()}
    assert measured_at == dict.fromkeys(BY_ALL, every) | {name: ["edge"] for name in BY_THE_EDGE}
    for figures in (each for by_peer in found["cpu_seconds"].values() for each in by_peer.values()):
        assert figures["total"] == pytest.approx(figures["user"] + figures["system"])
        assert figures["rounds"] == pytest.approx([figures["total"]])
    assert all(sorted(found["memory_bytes"][what]) == every for what in MEMORY)
    assert all(printed[operation][: len(peers.ALL)].count("") == 0 for operation in BY_ALL)
    assert set(BY_THE_EDGE) | {"at rest, MB", "at rest (PSS), MB", "idle connection, kB"} <= printed.keys()
    assert found["aims"]
    assert {judged["aim"] for judged in found["aims"]} <= printed.keys()
    assert all(found["versions"].values())


DEVICES = 200
MOST_GROWTH = 32_000_000
"""Bytes that a program may grow by while nothing new happens: twenty times what was seen."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("style", Style)
async def test_a_fleet_lives_and_comes_back(tmp_path: Path, style: Style) -> None:
    file = tmp_path / "fleet.json"
    options = ("--devices", str(DEVICES), "--seconds", "15", "--ramp-up", "8", "--style", style, "--json", str(file))
    printed = await run("bench.fleet", *options)
    (life,) = json.loads(file.read_text())["lives"]
    phases = {phase["name"]: phase for phase in life["phases"]}
    assert list(phases) == [
        "first admission",
        "every day",
        *(f"{what}, ledger {fate}" for fate in ("kept", "lost") for what in ("restart", "all at once")),
    ]
    assert not [phase for phase in phases.values() if phase["summary"]["errors"] and not phase["away"]]
    assert DEVICES <= phases["first admission"]["management_calls"] <= DEVICES + 10
    known, strangers = (phases[f"all at once, ledger {fate}"] for fate in ("kept", "lost"))
    assert known["management_calls"] <= 10
    # Fewer, where the management API is so busy that devices which Mender knows are let in without it.
    assert 10 < strangers["management_calls"] <= DEVICES + 10
    for phase in (known, strangers):
        assert phase["summary"]["kinds"]["authentication"]["statuses"] == {"200": DEVICES}
        assert phase["last_in_after"] > 0
    start, middle, end = (sample["memory"] for sample in phases["every day"]["samples"])
    assert start.keys() == middle.keys() == end.keys() == {"envoy", "python"}
    for program, size in start.items():
        assert end[program] - size < MOST_GROWTH
    assert phases.keys() <= rows(printed).keys()

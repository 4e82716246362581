"""`make bench` and `python -m bench.fleet` run, and tell all that the documents need. Their figures are not judged."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import peers

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

"""The benchmark of the ledger runs, on a few devices: what it measures is no matter of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOTH = ("empty ledger", "3 devices")


def test_a_small_ledger(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench.ledger", "--devices", "3", "--admissions", "2", "--json", str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(file.read_text())
    assert found["devices"] == 3
    assert all(value > 0 for kind in ("seconds", "bytes") for named in found[kind].values() for value in named.values())
    for what, kind in (
        ("restart of an edge, until it serves", "seconds"),
        ("first admission, median", "seconds"),
        ("memory of an edge's Python, after these admissions", "bytes"),
    ):
        assert set(found[kind][what]) == set(BOTH)
        assert f"| {what} | {BOTH[0]} " in run.stdout
    for what in ("facts for one admission", "opening it", "first page of `devices list` (500)", "finding one, median"):
        assert f"| {what} | " in run.stdout

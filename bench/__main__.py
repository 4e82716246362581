"""`python -m bench`: measure, print the table, write JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

import click

from bench import peers, report, rounds
from bench.measure import PROCESSORS


@click.command
@click.option("--quick", is_flag=True, help="Fewer rounds and operations: a look, not a figure to quote.")
@click.option("--smoke", is_flag=True, help="One tiny round of everything: whether it runs; its figures mean nothing.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures to this FILE.")
@click.option("--only", multiple=True, type=click.Choice(list(peers.ALL)), help="Only this peer; may be repeated.")
def main(*, quick: bool, smoke: bool, json_file: Path | None, only: tuple[str, ...]) -> None:
    """Measure the edge beside nginx, HAProxy and a bare Envoy on this machine."""
    if (line := peers.missing()) is not None:
        raise click.ClickException(f"not all peers are installed: {line}")
    chosen = only or tuple(peers.ALL)
    os.sched_setaffinity(0, PROCESSORS.load)
    started, load = time.monotonic(), os.getloadavg()[0]
    amounts = rounds.SMOKE if smoke else rounds.QUICK if quick else rounds.FULL
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        results = rounds.run(Path(name), amounts, chosen, lambda text: click.echo(text, err=True))
    facts = report.Facts(
        date=time.strftime("%Y-%m-%d"),
        machine=rounds.machine(),
        versions=peers.versions(),
        amounts=dataclasses.asdict(amounts),
        seconds=round(time.monotonic() - started),
        load=(load, os.getloadavg()[0]),
    )
    click.echo(report.text(results, chosen, facts))
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(results, facts), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

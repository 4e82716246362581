"""`python -m bench.fleet`: simulated devices at the real edge, and all of them at once after it was restarted.

Devices, edge and the lab's Mender Server share this machine: latencies are those of a machine that does all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import click
import uvloop

from bench import fleet_report, programs
from bench.fleet_report import Life, Phase, Sample
from bench.measure import Processes
from bench.rounds import machine
from mtls_ambassador.edge.machine import raise_file_limit
from mtls_ambassador.lab.fleet import Fleet, Habits
from mtls_ambassador.lab.population import Population
from mtls_ambassador.lab.statistics import Statistics
from mtls_ambassador.lab.transport import Style
from mtls_ambassador.pki import authority
from tests.ports import lasting_port

_PATIENCE = 300.0
"""Seconds until the last device must be in."""

_Entered = TypeVar("_Entered")
Tell = Callable[[str], None]


class _Watch:
    """Takes the figures, phase by phase, of a fleet and of the edge that it is at.

    Args:
        admin_port: Where each edge tells what it is doing.
        statistics: Those of the fleet.
    """

    def __init__(self, admin_port: int, statistics: Statistics) -> None:
        self._admin_port = admin_port
        self._statistics = statistics
        self._processes = Processes(os.getpid())
        self._calls = 0
        self._samples: list[Sample] = []
        self._began = time.monotonic()
        self.phases: list[Phase] = []

    def edge_started(self, pid: int) -> None:
        """Another edge is there."""
        self._processes = Processes(pid)
        self._calls = 0
        self.look("at rest")

    def look(self, when: str) -> None:
        """Note the edge's memory now."""
        memory = {name: used.rss for name, used in self._processes.memory_by_name().items()}
        self._samples.append(Sample(when, memory))

    async def phase_ended(self, name: str, last_in_after: float | None = None, *, away: bool = False) -> None:
        """Keep what the phase was like; the next begins."""
        summary = self._statistics.summary(time.monotonic() - self._began)
        calls = await asyncio.to_thread(_management_calls, self._admin_port)
        self.phases.append(Phase(name, summary, calls - self._calls, tuple(self._samples), last_in_after, away))
        self._calls = calls
        self._samples = []
        self._statistics.clear()
        self._began = time.monotonic()


async def live(directory: Path, style: Style, devices: int, seconds: float, habits: Habits, tell: Tell) -> Life:
    """Let a fleet be admitted, go on for a while, and authenticate at once after each of two restarts.

    Args:
        directory: For files; empty.
        style: Whose habits the devices have.
        devices: How many.
        seconds: How long they go on.
        habits: What they do meanwhile.
        tell: Is told what is being done.
    """
    ca = authority.init(directory, "Fleet CA")
    server = authority.issue_server(directory, "localhost")
    port, admin_port = lasting_port(), lasting_port()
    settings = {
        "listen": f"127.0.0.1:{port}",
        "admin_listen": f"127.0.0.1:{admin_port}",
        "server_cert": server.certificate_path,
        "server_key": server.key_path,
        "tenant_ca_pem": ca.certificate_path,
    }
    statistics = Statistics()
    url = f"https://localhost:{port}"
    population = Population(url, ca.certificate_path, "127.0.0.1", style, observe=statistics.call)
    fleet = Fleet(population.issued_by(directory), devices, habits, statistics)
    watch = _Watch(admin_port, statistics)

    @contextlib.asynccontextmanager
    async def edge(name: str, state: str) -> AsyncIterator[None]:
        started = programs.edge(directory / name, backend, {**settings, "state_dir": directory / state}, pinned=False)
        async with _aside(started) as pid:
            watch.edge_started(pid)
            yield

    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(_aside(programs.lab(directory / "lab")))
        async with edge("first", "state"):
            tell(f"{style}: {devices} devices are admitted")
            running = asyncio.create_task(fleet.run())
            stack.push_async_callback(_stopped, fleet, running)
            await _until(lambda: fleet.authenticated == devices, running)
            await watch.phase_ended("first admission")
            tell(f"{style}: {seconds:g} s of their lives")
            watch.look("start")
            for when in ("middle", "end"):
                await asyncio.sleep(seconds / 2)
                watch.look(when)
            await watch.phase_ended("every day")
        for name, state in (("ledger kept", "state"), ("ledger lost", "another")):
            tell(f"{style}: restart, {name}")
            async with edge(name, state):
                await watch.phase_ended(f"restart, {name}", away=True)
                before = len(fleet.all_back_after)
                fleet.authenticate_all()
                await _until(lambda: len(fleet.all_back_after) > before, running)  # noqa: B023
                watch.look("all are in")
                await watch.phase_ended(f"all at once, {name}", fleet.all_back_after[-1])
    return Life(style.value, devices, tuple(watch.phases))


@contextlib.asynccontextmanager
async def _aside(manager: contextlib.AbstractContextManager[_Entered]) -> AsyncIterator[_Entered]:
    """What blocks, in a thread: the devices go on."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def _until(reached: Callable[[], bool], running: asyncio.Task[None]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not reached():
        if running.done():
            await running
            raise click.ClickException("the devices ended before they should")
        if time.monotonic() > deadline:
            raise click.ClickException(f"not all devices were in after {_PATIENCE:g} s")
        await asyncio.sleep(0.05)


async def _stopped(fleet: Fleet, running: asyncio.Task[None]) -> None:
    fleet.stop()
    await asyncio.wait((running,), timeout=10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _management_calls(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return int(json.load(answer)["management_calls"])


def lives(styles: tuple[str, ...], devices: int, seconds: float, habits: Habits, tell: Tell) -> Iterator[Life]:
    """A fleet of each style, each at an edge and a Mender Server of its own."""
    for style in styles:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            yield uvloop.run(live(Path(name), Style(style), devices, seconds, habits, tell))


@click.command
@click.option("--devices", type=click.IntRange(1, 50_000), default=2000, show_default=True)
@click.option("--seconds", default=120.0, show_default=True, help="How long they go on when all are in.")
@click.option("--ramp-up", default=60.0, show_default=True, help="Seconds over which they start.")
@click.option(
    "--style",
    "styles",
    multiple=True,
    type=click.Choice([style.value for style in Style]),
    help="May be repeated. Default: all.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures to this FILE.")
def main(*, devices: int, seconds: float, ramp_up: float, styles: tuple[str, ...], json_file: Path | None) -> None:
    """Run simulated devices at the real edge, restart it, and let all authenticate at once.

    Ends with status 1 if a device met an error, but for the time in which nobody listened.
    """
    raise_file_limit()
    habits = Habits(ramp_up=ramp_up)
    load = os.getloadavg()[0]
    chosen = styles or tuple(style.value for style in Style)
    found = list(lives(chosen, devices, seconds, habits, lambda text: click.echo(text, err=True)))
    facts: Mapping[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": (load, os.getloadavg()[0]),
        "seconds": seconds,
        "habits": dataclasses.asdict(habits),
    }
    click.echo("\n\n".join(map(fleet_report.text, found)))
    if json_file is not None:
        document = {**facts, "lives": [dataclasses.asdict(each) for each in found]}
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if failures := sum(each.failures for each in found):
        raise click.ClickException(f"{failures} errors")


if __name__ == "__main__":
    main()

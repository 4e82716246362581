"""`python -m bench.ledger`: the ledger with many devices in it (SQLite), and an edge on it beside one on an empty one.

Every device has one certificate and one entry of history, as its admission leaves them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import json
import os
import random
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from bench import load
from bench.batch import measured
from bench.load import Target
from bench.material import Material
from bench.measure import PROCESSORS
from bench.peers import Peer, edge
from bench.programs import lab
from bench.rounds import auth_request_of, machine
from mtls_ambassador.devices.questions import list_page, look_up
from mtls_ambassador.ledger.database import FILE, Database, open_database, opened_for_reading, reading, writing
from mtls_ambassador.ledger.facts import read_facts
from mtls_ambassador.ledger.ledger import ROOM, Ledger
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Certificate, Claim, Event, EventKind
from mtls_ambassador.ledger.writes import write

_AT_ONCE = 1000  # events in one transaction, while the ledger is filled
_BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_DAY = dt.timedelta(days=1)


@dataclass
class Figures:
    """What was measured: seconds and bytes, by what they are of and how they were taken.

    Attributes:
        seconds: Such as {"facts": {"median": 0.001}}.
        size: Likewise, in bytes.
    """

    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    size: dict[str, dict[str, float]] = field(default_factory=dict)

    def add_times(self, what: str, times: Sequence[float], cpu: float | None = None) -> None:
        """One operation, several times: how long each took, and the processor time of all."""
        ordered = sorted(times)
        named = self.seconds[what] = {"median": statistics.median(ordered)}
        named["99 of 100 within"] = ordered[(len(ordered) * 99 - 1) // 100]
        if cpu is not None:
            named["processor time"] = cpu / len(ordered)

    def table(self) -> str:
        """For a person, as Markdown."""
        rows = [("", ""), ("---", "---")]
        for figures, written in ((self.seconds, _time), (self.size, _megabytes)):
            for what, by_name in figures.items():
                rows.append((what, ", ".join(f"{name} {written(value)}" for name, value in by_name.items())))
        return "\n".join(f"| {what} | {values} |" for what, values in rows)


def certificate_of(number: int) -> Certificate:
    """What the ledger keeps of a device's certificate; nobody has it."""
    return Certificate(
        fingerprint=_sha256(f"certificate {number}"),
        key=_sha256(f"key {number}"),
        subject=f"CN=device-{number:07},OU=Devices,O=Example Devices Ltd.",
        issuer="CN=Example Device CA,O=Example Devices Ltd.",
        serial=_sha256(f"serial {number}")[:32],
        anchor="default",
        not_before=_BEGIN - _DAY,
        not_after=_BEGIN + 3650 * _DAY,
    )


def claim_of(number: int) -> Claim:
    """What a device claims to be."""
    mac = ":".join(f"{byte:02x}" for byte in (0x5254_0000_0000 + number).to_bytes(6, "big"))
    certificate = certificate_of(number)
    return Claim(f'{{"mac":"{mac}"}}', certificate, certificate.key)


def admission_of(number: int, day: int = 0) -> Event:
    """The event of its admission."""
    claim = claim_of(number)
    name = _sha256(f"{number} {day}")
    return Event(
        _BEGIN + day * _DAY + number * dt.timedelta(milliseconds=50),
        EventKind.ADMITTED,
        request_id=f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:32]}",
        address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:{32768 + number % 28000}",
        identity=claim.identity,
        certificate=claim.certificate,
        auth_key=claim.auth_key,
        mender_id=f"{name[32:40]}-{name[40:44]}-{name[44:48]}-{name[48:52]}-{name[52:64]}",
        mender_status=200,
    )


def fill(directory: Path, count: int, figures: Figures) -> None:
    """Make a ledger with so many devices."""
    with contextlib.closing(open_database(Database.at(None, directory))) as connection, _watched() as spent:
        for first in range(0, count, _AT_ONCE):
            with writing(connection):
                for number in range(first, min(first + _AT_ONCE, count)):
                    write(connection, admission_of(number))
    figures.seconds["filling it, for each device"] = spent.per(count)
    figures.size["size on disk"] = {"history included": (directory / FILE).stat().st_size}


def ask(directory: Path, count: int, figures: Figures) -> None:
    """What admission and operators ask."""
    place = Database.at(None, directory)
    chosen = random.Random(1).choices(range(count), k=min(count, 1000))
    times, cpu = _each(lambda _: open_database(place).close(), range(5))
    figures.add_times("opening it", times, cpu)
    with contextlib.closing(open_database(place)) as connection:
        times, cpu = _each(lambda number: _facts(connection, claim_of(number)), chosen)
    figures.add_times("facts for one admission", times, cpu)
    with opened_for_reading(place) as connection:
        times, cpu = _each(lambda _: list_page(connection, DeviceFilter()), range(5))
        figures.add_times("first page of `devices list` (500)", times, cpu)
        one = claim_of(chosen[0])
        queries = {
            "subject's CN": f"device-{chosen[0]:07}",
            "serial": one.certificate.serial,
            "attribute": one.identity[2:-2].replace('":"', "="),
            "identity": one.identity,
            "fingerprint": one.certificate.fingerprint,
        }
        for name, query in queries.items():
            times, _ = _each(lambda _, query=query: look_up(connection, query), range(3))  # type: ignore[misc]
            figures.seconds.setdefault("finding one, median", {})[name] = statistics.median(times)


async def tell(directory: Path, count: int, figures: Figures) -> None:
    """What the edge tells it, and what it asks right after."""
    events = [admission_of(number, day=1) for number in range(min(count, ROOM // 2))]
    async with Ledger(Database.at(None, directory), 90 * 86400.0) as ledger:
        times, cpu = _each(lambda one: ledger.record(events[one]), range(len(events)))
        figures.add_times("recording an event, for who records it", times, cpu)
        with _watched() as spent:
            await ledger.flush()
        figures.seconds["writing an event, in batches"] = spent.per(ledger.counters.written)
        times = []
        for number in range(min(count, 200)):
            ledger.record(admission_of(number, day=2))
            begun = time.monotonic()
            await ledger.facts(claim_of(number))
            times.append(time.monotonic() - begun)
        figures.add_times("facts right after an event", times)


def list_all(directory: Path, figures: Figures) -> None:
    """The command, its start included."""
    used = measured([*_COMMAND, "--ledger", str(directory / FILE)])
    figures.seconds["whole `devices list --json`, without an edge"] = {"time": used.wall, "processor time": used.cpu}
    figures.size["memory of the whole `devices list --json`"] = {"at the highest": used.memory}


def serve(directory: Path, ledgers: Mapping[str, Path], admissions: int, figures: Figures) -> None:
    """An edge on each ledger: its start, admissions, a list, a restart.

    Args:
        directory: For files; empty.
        ledgers: State directories, by what they are.
        admissions: How many new devices come.
        figures: Are added to.
    """
    directory.mkdir()
    material = Material("p256", directory / "material")
    with lab(directory / "lab") as backend:
        for name, state in ledgers.items():
            devices = [(f"{name}-{number}", material.device(f"{name}-{number}")) for number in range(admissions)]
            requests = []
            for mac, device in devices:
                context = material.context(device, ssl.TLSVersion.TLSv1_3)
                requests.append((context, auth_request_of(device, mac)))
            for turn in ("start", "restart"):
                begun = time.monotonic()
                with edge(directory / f"{name} {turn}", material, backend, state_dir=state) as peer:
                    _set(figures.seconds, f"{turn} of an edge, until it serves", name, time.monotonic() - begun)
                    what = "first admission" if turn == "start" else "known device's request after a restart"
                    _come(peer, requests, what, name, figures)
                    if turn == "start":
                        _set(figures.size, "memory of an edge's Python, after these admissions", name, _python(peer))
                        measured([*_COMMAND, "--state-dir", str(state)])
                        _set(figures.size, "memory of it, after a whole `devices list` through it", name, _python(peer))
                    begun = time.monotonic()
                _set(figures.seconds, f"end of an edge, after its {turn}", name, time.monotonic() - begun)


def _come(peer: Peer, requests: Sequence[tuple[ssl.SSLContext, bytes]], what: str, name: str, figures: Figures) -> None:
    processes = peer.processes
    before = processes.mark()

    def once(number: int) -> None:
        context, request = requests[number]
        with Target(peer.port, context).connect() as connection:
            load.exchange(connection, request)

    times, _ = _each(once, range(len(requests)))
    _set(figures.seconds, f"{what}, median", name, statistics.median(times))
    _set(figures.seconds, f"{what}, processor time", name, processes.cpu_since(before).total / len(requests))


@click.command
@click.option("--devices", default=100_000, show_default=True, type=click.IntRange(1), help="How many there are.")
@click.option("--admissions", default=100, show_default=True, help="New devices that come to each edge.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures to this FILE.")
def main(*, devices: int, admissions: int, json_file: Path | None) -> None:
    """Measure the ledger with many devices in it, in a SQLite file."""
    os.sched_setaffinity(0, PROCESSORS.load)
    figures, before = Figures(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        full, empty = directory / "full", directory / "empty"
        click.echo(f"making a ledger of {devices:,} devices", err=True)
        fill(full, devices, figures)
        click.echo("asking it, telling it, listing it", err=True)
        ask(full, devices, figures)
        asyncio.run(tell(full, devices, figures))
        list_all(full, figures)
        click.echo("an edge on an empty ledger, and one on this", err=True)
        serve(directory / "edges", {"empty ledger": empty, f"{devices:,} devices": full}, admissions, figures)
    loads = [round(before, 1), round(os.getloadavg()[0], 1)]
    click.echo(figures.table())
    click.echo(f"load, before and after: {loads}")
    if json_file is not None:
        facts: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "devices": devices}
        content = {**facts, "load": loads, "seconds": figures.seconds, "bytes": figures.size}
        json_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@dataclass
class _Spent:
    wall: float = 0.0
    cpu: float = 0.0

    def per(self, count: int) -> dict[str, float]:
        return {"time": self.wall / count, "processor time": self.cpu / count}


@contextlib.contextmanager
def _watched() -> Iterator[_Spent]:
    spent, wall, cpu = _Spent(), time.monotonic(), time.process_time()
    yield spent
    spent.wall, spent.cpu = time.monotonic() - wall, time.process_time() - cpu


def _each(operation: Callable[[int], object], numbers: Sequence[int]) -> tuple[list[float], float]:
    """How long each took, and the processor time of all."""
    times = []
    cpu = time.process_time()
    for number in numbers:
        begun = time.monotonic()
        operation(number)
        times.append(time.monotonic() - begun)
    return times, time.process_time() - cpu


def _facts(connection: Connection, claim: Claim) -> None:
    with reading(connection):
        read_facts(connection, claim)


def _python(peer: Peer) -> float:
    return sum(used.rss for program, used in peer.processes.memory_by_name().items() if program != "envoy")


def _set(where: dict[str, dict[str, float]], what: str, name: str, value: float) -> None:
    where.setdefault(what, {})[name] = value


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1e3:,.1f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:,.1f} µs"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_COMMAND = (sys.executable, "-m", "mtls_ambassador", "devices", "list", "--json")


if __name__ == "__main__":
    main()

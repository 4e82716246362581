"""`mtls-ambassador lab device`: simulated devices, one or thousands."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import uvloop

from mtls_ambassador.config.values import parse_backend, parse_duration
from mtls_ambassador.edge.machine import raise_file_limit
from mtls_ambassador.errors import Error
from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.fleet import Fleet, Habits, run_for
from mtls_ambassador.lab.population import Population
from mtls_ambassador.lab.statistics import KindSummary, Statistics, Summary
from mtls_ambassador.lab.transport import Style

_PROGRESS_EVERY = 5.0


class _Seconds(click.ParamType[float]):
    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read `20`, `500ms`, `30s`, `5m` or `1h`."""
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def _server(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        found = parse_backend(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error
    if not found.tls:
        raise click.BadParameter(f"{value!r} is not an https:// URL: the edge speaks nothing else")
    return str(found)


def _identity(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, separator, content in pairs:
        if not (name and separator and content):
            raise click.BadParameter("write NAME=VALUE, such as mac=52:54:00:00:00:01")
    return {name: content for name, _, content in pairs}


_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("device")
@click.option("--server", required=True, callback=_server, metavar="URL", help="The edge, as ServerURL of mender.conf.")
@click.option("--ca", type=_FILE, help="PEM FILE that the edge's certificate must chain to. Default: the system's.")
@click.option("--cert", "certificate", type=_FILE, help="PEM FILE: the device's certificate.")
@click.option("--key", type=_FILE, help="PEM FILE: its private key.")
@click.option(
    "--ca-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Instead of --cert and --key: the folder of a CA made with `pki init`. Each device gets a certificate and an "
    "identity made for this run, which are kept in memory only.",
)
@click.option("--count", type=click.IntRange(1, 50_000), default=1, show_default=True, help="Devices, with --ca-dir.")
@click.option(
    "--identity",
    multiple=True,
    callback=_identity,
    metavar="NAME=VALUE",
    help="Identity data, with --cert. Repeatable.",
)
@click.option("--address", metavar="IP", help="Connect there, whatever DNS says of the host in --server.")
@click.option(
    "--style",
    type=click.Choice([style.value for style in Style]),
    default=Style.GO.value,
    show_default=True,
    help="cpp: a new TLS connection for each request. go: one, kept alive, with chunked bodies.",
)
@click.option("--duration", type=_Seconds(), default="2m", show_default=True, help="How long; Ctrl-C ends it before.")
@click.option("--ramp-up", type=_Seconds(), default="0s", show_default=True, help="Time over which the devices start.")
@click.option("--interval", type=_Seconds(), default="20s", show_default=True, help="Between two update checks.")
@click.option(
    "--inventory-interval", type=_Seconds(), default="60s", show_default=True, help="Between two inventories."
)
@click.option("--retry-interval", type=_Seconds(), default="5s", show_default=True, help="After a failure.")
@click.option(
    "--reauthenticate-every",
    type=_Seconds(),
    help="Send auth requests without need. The signal USR1 lets all devices do so at the same moment.",
)
@click.option("--websocket", is_flag=True, help="Hold the WebSocket of mender-connect open.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; the progress goes to stderr.")
def device(
    server: str,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    ca_dir: Path | None,
    count: int,
    identity: Mapping[str, str],
    address: str | None,
    style: str,
    duration: float,
    ramp_up: float,
    interval: float,
    inventory_interval: float,
    retry_interval: float,
    reauthenticate_every: float | None,
    websocket: bool,
    as_json: bool,
) -> None:
    """Simulate Mender devices: authentication, inventory, update checks, deployments.

    Ends with a summary of rates and latencies, and with status 1 if anything failed.
    """
    statistics = Statistics()
    population = Population(server, ca, address, Style(style), observe=statistics.call)
    make = _maker(population, certificate, key, ca_dir, count, identity)
    habits = Habits(
        update_interval=interval,
        inventory_interval=inventory_interval,
        retry_interval=retry_interval,
        reauthenticate_every=reauthenticate_every,
        websocket=websocket,
        ramp_up=ramp_up,
    )
    raise_file_limit()
    fleet = Fleet(make, count, habits, statistics)
    summary = uvloop.run(_run(fleet, statistics, duration, quiet=as_json))
    click.echo(json.dumps(_document(summary, fleet)) if as_json else "\n".join(_table(summary, fleet)))
    if summary.failures:
        raise Error(f"{summary.failures} errors")


def _maker(
    population: Population,
    certificate: Path | None,
    key: Path | None,
    ca_dir: Path | None,
    count: int,
    identity: Mapping[str, str],
) -> Callable[[int], SimulatedDevice]:
    if ca_dir is not None:
        if certificate or key or identity:
            raise click.UsageError("--ca-dir stands instead of --cert, --key and --identity")
        return population.issued_by(ca_dir)
    if certificate is None or key is None:
        raise click.UsageError("a device needs --cert and --key, or --ca-dir")
    if count > 1:
        raise click.UsageError("more than one device needs --ca-dir: each has a certificate of its own")
    return population.of_files(certificate, key, identity or {"mac": _stable_mac(certificate)})


def _stable_mac(certificate: Path) -> str:
    """The same device for the same certificate."""
    return (b"\x02" + hashlib.sha256(certificate.read_bytes()).digest()[:5]).hex(":")


async def _run(fleet: Fleet, statistics: Statistics, duration: float, *, quiet: bool) -> Summary:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, fleet.stop)
    loop.add_signal_handler(signal.SIGUSR1, fleet.authenticate_all)
    began = time.monotonic()
    progress = asyncio.create_task(_tell_progress(fleet, statistics, began, err=quiet))
    try:
        await run_for(fleet, duration)
    finally:
        progress.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await progress
    return statistics.summary(time.monotonic() - began)


async def _tell_progress(fleet: Fleet, statistics: Statistics, began: float, *, err: bool) -> None:
    before = 0
    while True:
        await asyncio.sleep(_PROGRESS_EVERY)
        sockets = f", {fleet.sockets} WebSockets" if fleet.sockets else ""
        click.echo(
            f"{time.monotonic() - began:5.0f} s  {fleet.authenticated} of {len(fleet)} authenticated{sockets}, "
            f"{(statistics.calls - before) / _PROGRESS_EVERY:.0f} requests/s, {statistics.failures} errors",
            err=err,
        )
        before = statistics.calls


def _document(summary: Summary, fleet: Fleet) -> dict[str, object]:
    return {
        "devices": len(fleet),
        **dataclasses.asdict(summary),
        "artifacts": {
            name: {**dataclasses.asdict(found), "downloads": fleet.artifacts.counts.get(name, 0)}
            for name, found in fleet.artifacts.downloads.items()
        },
        "all_authenticated_again_after_seconds": fleet.all_back_after,
    }


def _table(summary: Summary, fleet: Fleet) -> list[str]:
    lines = [
        "",
        f"{len(fleet)} devices, {summary.seconds:.0f} s; times in ms",
        f"{'':<18}{'count':>9}{'per s':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}  status",
        *(_row(name, kind) for name, kind in summary.kinds.items()),
    ]
    for name, found in fleet.artifacts.downloads.items():
        count = fleet.artifacts.counts.get(name, 0)
        lines.append(f"artifact {name}: {count} downloads of {found.length} bytes, sha256 {found.sha256}")
    lines += [f"all were authenticated again after {seconds:.1f} s" for seconds in fleet.all_back_after]
    lines.append("no errors" if not summary.errors else "errors:")
    lines += [f"{count:>9}  {what}" for what, count in summary.errors.items()]
    return lines


def _row(name: str, kind: KindSummary) -> str:
    times = "".join(f"{value:9.1f}" for value in (kind.p50_ms, kind.p95_ms, kind.p99_ms, kind.max_ms))
    statuses = " ".join(f"{status}:{count}" for status, count in kind.statuses.items())
    return f"{name:<18}{kind.count:>9}{kind.per_second:>9.1f}{times}  {statuses}".rstrip()

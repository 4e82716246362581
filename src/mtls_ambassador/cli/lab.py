"""`mtls-ambassador lab`: the embedded Mender Server, and simulated devices."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click
import uvloop

from mtls_ambassador.cli.lab_device import device
from mtls_ambassador.config.values import ListenAddress, parse_listen
from mtls_ambassador.lab.server import LabServer, LabSettings, parse_fault
from mtls_ambassador.observe.logging import configure
from mtls_ambassador.serving import any_address
from mtls_ambassador.stopping import StopSignals


@click.group
def lab() -> None:
    """For evaluation and tests: an embedded Mender Server, and simulated devices."""


lab.add_command(device)


def _listen(_context: click.Context, _option: click.Parameter, value: str) -> ListenAddress:
    try:
        return parse_listen(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error


@lab.command
@click.option("--listen", default="127.0.0.1:9080", show_default=True, callback=_listen, metavar="[HOST:]PORT")
@click.option("--user", default="mtls@mender.io", show_default=True, help="E-mail of the management user.")
@click.option(
    "--password",
    help="That user's password. Everybody on this machine can read it in the process list: for the lab only. "
    "Better: the environment variable LAB_PASSWORD.",
)
@click.option(
    "--db",
    type=click.Path(path_type=Path),
    help="SQLite FILE to keep everything in, artifacts in a directory beside it. Default: memory.",
)
@click.option("--max-devices", type=click.IntRange(0), help="Limit of accepted devices. Default: none.")
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="PEM file: serve HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="PEM file of its private key.")
@click.option("--v2-next", is_flag=True, help="Have the update check of API v2, as Enterprise and hosted Mender.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="RULE",
    help="Misbehave: latency=2s,path=/api/management or status=503,path=/api,count=3 or status=429,retry_after=5. "
    "May be given several times.",
)
def server(
    listen: ListenAddress,
    user: str,
    password: str | None,
    db: Path | None,
    max_devices: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    v2_next: bool,
    faults: tuple[str, ...],
) -> None:
    """Run an embedded Mender Server until Ctrl-C."""
    password = password or os.environ.get("LAB_PASSWORD")
    if not password:
        raise click.UsageError("the management user needs a password: --password or LAB_PASSWORD")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    settings = LabSettings(
        user=user,
        password=password,
        db=db,
        max_devices=max_devices,
        v2_next=v2_next,
        faults=tuple(parse_fault(text) for text in faults),
    )
    configure("text", debug=False)
    tls = (tls_cert, tls_key) if tls_cert and tls_key else None
    uvloop.run(_run(settings, listen, tls))


async def _run(settings: LabSettings, listen: ListenAddress, tls: tuple[Path, Path] | None) -> None:
    signals = StopSignals()
    async with contextlib.AsyncExitStack() as stack:
        server = LabServer(settings, host=listen.host or any_address(), port=listen.port, tls=tls)
        running = await signals.enter(stack, server)
        if running is not None:
            click.echo(f"lab Mender Server on {running.url}, management user {settings.user}; Ctrl-C stops it")
            click.echo(f"what it knows, for a browser: {running.url}/ (that user and his password)")
            await signals.stop.wait()

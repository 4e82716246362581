"""`mtls-ambassador demo`: see it work on this machine, without anything to prepare."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import click
import uvloop

from mtls_ambassador.lab.demo import USER, Scene, inventory_of, stage
from mtls_ambassador.observe.logging import configure
from mtls_ambassador.stopping import StopSignals


class _Screen:
    """Tells the steps on the terminal."""

    def __init__(self) -> None:
        self._count = 0

    def step(self, text: str) -> None:
        self._count += 1
        click.secho(f"{self._count}. {text}", bold=True)

    def fact(self, text: str) -> None:
        click.echo(f"   {click.style('✓', fg='green')} {text}")

    def problem(self, text: str) -> None:
        click.echo(f"   {click.style('!', fg='yellow')} {text}")


@click.command
@click.option("--exit", "leave", is_flag=True, help="Stop after the table; status 1 if a device was not accepted.")
def demo(*, leave: bool) -> None:
    """Run everything here: CA, lab Mender Server, edge and devices; until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="mtls-demo-") as name:
        directory = Path(name)
        log_path = directory / "edge.log"
        with log_path.open("w", encoding="utf-8", buffering=1) as log:
            configure("text", debug=False, stream=log)
            everybody_is_in = uvloop.run(_play(directory, log_path, leave=leave))
            configure("text", debug=False)
    if not everybody_is_in:
        sys.exit(1)


async def _play(directory: Path, log_path: Path, *, leave: bool) -> bool:
    began = time.monotonic()
    signals = StopSignals()
    async with contextlib.AsyncExitStack() as stack:
        scene = await signals.enter(stack, stage(directory, log_path, _Screen()))
        if scene is None:
            return False
        click.echo(f"\n{_table(scene)}\n\nThis took {time.monotonic() - began:.1f} s.")
        if not leave:
            click.echo(_try_next(scene))
            await signals.stop.wait()
        elif not scene.everybody_is_in:
            click.echo(await asyncio.to_thread(log_path.read_text))
        return scene.everybody_is_in


def _table(scene: Scene) -> str:
    """One line for each attribute of a device's inventory; its status and identity stand on the first."""
    lines = [("status", "identity", "inventory")]
    for device in scene.devices:
        identity = ", ".join(f"{name}={value}" for name, value in device.identity.items())
        inventory = [f"{name}={value}" for name, value in sorted(inventory_of(device).items())]
        lines.append((device.status, identity, inventory[0] if inventory else ""))
        lines += [("", "", attribute) for attribute in inventory[1:]]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    heading, *rows = (f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in lines)
    return "\n".join([click.style(heading, bold=True), *rows])


def _try_next(scene: Scene) -> str:
    folder = scene.directory
    device = folder / "simulated-device"
    return f"""
{click.style("Try next", bold=True)}, in another terminal:

  as a stranger (then look at the log):
    openssl s_client -connect {scene.edge_url.removeprefix("https://")} </dev/null

  as a device:
    curl --cacert {folder}/ca-cert.pem --cert {device}/device-cert.pem --key {device}/device-private.key \\
      {scene.edge_url}/status

  what the edge logs, and how it is:
    tail -f {scene.log_path}
    curl {scene.health_url}/readyz

  what Mender knows:
    {scene.lab_url}/ in a browser, as {USER} with the password {scene.password}

It all runs until Ctrl-C; then the folder is removed."""

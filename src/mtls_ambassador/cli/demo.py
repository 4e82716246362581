"""`mtls-ambassador demo`: see it work on this machine, without anything to prepare."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtls_ambassador.lab.demo import USER, Scene, inventory_of, stage
from mtls_ambassador.observe.logging import configure
from mtls_ambassador.stopping import StopSignals


class _Screen:
    """Tells the steps on the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._count = 0

    def step(self, text: str) -> None:
        self._count += 1
        self._console.print(f"[bold]{self._count}. {escape(text)}[/bold]", highlight=False)

    def fact(self, text: str) -> None:
        self._console.print(f"   [green]✓[/green] {escape(text)}", highlight=False, soft_wrap=True)

    def problem(self, text: str) -> None:
        self._console.print(f"   [yellow]![/yellow] {escape(text)}", highlight=False, soft_wrap=True)


@click.command
@click.option("--exit", "leave", is_flag=True, help="Stop after the table; status 1 if a device was not accepted.")
def demo(*, leave: bool) -> None:
    """Run everything here: CA, lab Mender Server, edge and devices; until Ctrl-C."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="mtls-demo-") as name:
        directory = Path(name)
        log_path = directory / "edge.log"
        with log_path.open("w", encoding="utf-8", buffering=1) as log:
            configure("text", debug=False, stream=log)
            everybody_is_in = uvloop.run(_play(console, directory, log_path, leave=leave))
            configure("text", debug=False)
    if not everybody_is_in:
        sys.exit(1)


async def _play(console: Console, directory: Path, log_path: Path, *, leave: bool) -> bool:
    signals = StopSignals()
    async with contextlib.AsyncExitStack() as stack:
        scene = await signals.enter(stack, stage(directory, log_path, _Screen(console)))
        if scene is None:
            return False
        console.print(_table(scene))
        if not leave:
            console.print(_try_next(scene), highlight=False, soft_wrap=True)
            await signals.stop.wait()
        elif not scene.everybody_is_in:
            console.print(await asyncio.to_thread(log_path.read_text), highlight=False, markup=False)
        return scene.everybody_is_in


def _table(scene: Scene) -> Table:
    table = Table(title="Devices in Mender", title_justify="left")
    for column in ("status", "identity", "inventory"):
        table.add_column(column, overflow="fold")
    for device in scene.devices:
        identity = ", ".join(f"{name}={value}" for name, value in device.identity.items())
        inventory = "\n".join(f"{name}={value}" for name, value in sorted(inventory_of(device).items()))
        table.add_row(device.status, escape(identity), escape(inventory))
    return table


def _try_next(scene: Scene) -> str:
    folder = scene.directory
    device = folder / "simulated-device"
    return f"""
[bold]Try next[/bold], in another terminal:

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

"""The command `mtls-ambassador`."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback

import click

from mtls_ambassador import __version__
from mtls_ambassador.cli.serve import run_edge, serve, settings_options
from mtls_ambassador.config.detail import wants_detail
from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.errors import Error
from mtls_ambassador.printable import escaped

FAILED = 1
"""A run that failed."""
WRONG_USAGE = 2
"""A command line or configuration that cannot be used: trying again without changing it is of no use."""


class _Commands(click.Group):
    """Imports the modules of some commands only when one of these is asked for.

    The edge needs none of them, and what an import takes in memory a process keeps.
    """

    _LATER = ("demo", "device", "devices", "lab", "pki")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._LATER})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._LATER and cmd_name not in self.commands:
            self.add_command(getattr(importlib.import_module(f"mtls_ambassador.cli.{cmd_name}"), cmd_name))
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, "-V", "--version", message="mtls-ambassador %(version)s")
@settings_options
@click.pass_context
def command(context: click.Context, /, **options: object) -> None:
    """Mutual-TLS edge proxy for the Mender OTA system.

    Without a command it runs the edge. Every option can also be a key of the configuration file (listen: 8080), or an
    environment variable (MTLS_LISTEN=8080).
    """
    context.obj = options
    if context.invoked_subcommand is None:
        run_edge(options)


@command.command("help")
@click.argument("names", nargs=-1)
@click.pass_context
def show_help(context: click.Context, names: tuple[str, ...]) -> None:
    """Show this text, or that of a command."""
    target: click.Command = command
    at = context.parent or context
    for name in names:
        found = target.get_command(at, name) if isinstance(target, click.Group) else None
        if found is None:
            raise click.UsageError(f"there is no command {' '.join(names)!r}")
        at = click.Context(found, info_name=name, parent=at)
        target = found
    click.echo(target.get_help(at))


command.add_command(click.Command("h", callback=show_help.callback, params=show_help.params, hidden=True))
command.add_command(serve)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 1 for a run that failed, 2 for wrong usage."""
    try:
        _run(arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                # Whoever read it has gone, or its disk is full. The interpreter would try once more at its end, and
                # make the exit status 120 of it.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(arguments: list[str] | None) -> None:
    try:
        command.main(arguments, prog_name="mtls-ambassador", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show(sys.stderr)
        sys.exit(WRONG_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Error as error:
        _complain(error)
        sys.exit(error.exit_status)
    except OSError as error:
        _complain(Error(error.strerror or str(error)))
        sys.exit(FAILED)
    except Exception as error:
        # A fault of ours: one line; the traceback only for who asked for detail.
        if _wants_detail(arguments):
            traceback.print_exc()
        _complain(Error(f"{type(error).__name__}: {error}", "This is a fault of ours: please report what you did."))
        sys.exit(FAILED)


def _wants_detail(arguments: list[str] | None) -> bool:
    """Whether `debug_log` is set, by the options before the command if there are any."""
    context = command.make_context("mtls-ambassador", list(sys.argv[1:] if arguments is None else arguments))
    options = {key: context.params[key] for key in ("config_file", "debug_log") if context.params[key] is not None}
    return wants_detail(options.pop("config_file", None), os.environ, options)


def _complain(error: Error) -> None:
    # What others chose may be in it; only problems of the configuration have lines of their own.
    lines = error.what.split("\n") if isinstance(error, ConfigurationError) else [error.what]
    if error.remedy:
        lines.append(f"  {error.remedy}")
    with contextlib.suppress(OSError):
        click.echo("\n".join(map(escaped, [f"mtls-ambassador: {lines[0]}", *lines[1:]])), err=True)

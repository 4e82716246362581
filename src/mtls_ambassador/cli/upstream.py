"""Which Mender Servers are behind the edge, so that no device is sent past it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mtls_ambassador.config.sources import load_backend
from mtls_ambassador.config.values import BackendUrl, parse_backend


def _parsed(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    try:
        return tuple(parse_backend(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


option = click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="URL",
    callback=_parsed,
    help="A Mender Server behind the edge: no device is sent there. Repeatable. The edge's own mender_backend "
    "(MTLS_MENDER_BACKEND, or --config before the command) and Mender's hosts are known.",
)
"""More of them, `upstreams`."""


def of_the_edge(context: click.Context) -> tuple[BackendUrl, ...]:
    """The upstream in the edge's own settings, if they are at hand.

    Args:
        context: Whose object are the options before the command.

    Raises:
        ConfigurationError: the configuration file cannot be read, or the value is no URL.
    """
    edge = {key: value for key, value in context.obj.items() if value is not None}
    config_file = edge.pop("config_file", None)
    own = load_backend(Path(str(config_file)) if config_file else None, os.environ, edge)
    return () if own is None else (own,)

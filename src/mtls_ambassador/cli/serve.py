"""Running the edge from the command line: every setting but secrets is an option."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog
import uvloop

from mtls_ambassador.config.settings import SECRET_KEYS, Settings
from mtls_ambassador.config.sources import load
from mtls_ambassador.errors import Error
from mtls_ambassador.observe.logging import configure

_Command = TypeVar("_Command", bound=Callable[..., Any])

_log = structlog.get_logger()

_METAVARS = {
    "listen": "[HOST:]PORT",
    "health_listen": "[HOST:]PORT",
    "admin_listen": "[HOST:]PORT",
    "mender_backend": "URL",
    "mender_user": "E-MAIL",
    "mender_pass_file": "FILE",
    "mender_token_file": "FILE",
    "token_key_file": "FILE",
    "mender_ca": "FILE",
    "ledger_url_file": "FILE",
    "ledger_retention": "DURATION",
    "server_cert": "FILE",
    "server_key": "FILE",
    "tenant_ca_pem": "FILE",
    "envoy_path": "FILE",
    "state_dir": "DIRECTORY",
    "audit_log": "FILE|stdout|off",
    "tls_min_version": "1.2|1.3",
    "access_log": "all|errors|off",
    "log_format": "text|json",
    "shutdown_grace": "DURATION",
    "handshake_timeout": "DURATION",
    "allowed_paths": "PATHS",
    "binding": "JSON",
    "trust_anchors": "JSON",
    "rotation": "same-subject|any|never",
    "identities_per_certificate": "1|unlimited",
    "adopt_until": "DATE",
    "auth_rate_per_certificate": "RATE",
    "auth_rate_per_address": "RATE",
}


def settings_options(function: _Command) -> _Command:
    """Give a command `--config` and one option for each setting.

    Secrets have none, since everybody on the machine can read a command line; their `--..._file` variant has.
    """
    for key, field in reversed(Settings.model_fields.items()):
        text = field.description or ""
        name = key
        if key in SECRET_KEYS:
            name, text = f"{key}_file", f"File that holds {key}. {text}"
        is_flag = field.annotation is bool
        option = f"--{name.replace('_', '-')}"
        function = click.option(
            f"{option}/--no-{option[2:]}" if is_flag else option,
            name,
            default=None,
            help=text,
            metavar=None if is_flag else _METAVARS.get(name, "TEXT"),
        )(function)
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help='Configuration FILE: YAML, TOML, JSON or HCL, by its extension. (default: "config.yaml" if there is one)',
    )(function)


@click.command
@settings_options
@click.pass_obj
def serve(before: Mapping[str, object], /, **options: object) -> None:
    """Run the edge (the same as no command)."""
    run_edge({**before, **{key: value for key, value in options.items() if value is not None}})


def run_edge(options: Mapping[str, object]) -> None:
    """Load the settings and run until a signal.

    Raises:
        Error: it cannot start, or Envoy cannot be kept running.
    """
    given = {key: value for key, value in options.items() if value is not None}
    config_file = given.pop("config_file", None)
    loaded = load(Path(str(config_file)) if config_file else None, os.environ, given)
    configure(loaded.settings.log_format, debug=loaded.settings.debug_log)
    for warning in loaded.warnings:
        _log.warning(warning)
    from mtls_ambassador import ambassador  # noqa: PLC0415  # most of a second, which other commands need not wait

    try:
        uvloop.run(ambassador.run(loaded.settings, os.environ))
    except Error:
        raise
    except Exception as error:
        # A fault of ours: one line; the traceback only for who asked for detail.
        if loaded.settings.debug_log:
            _log.error("the edge failed", exc_info=error)
        raise Error(
            f"the edge failed: {type(error).__name__}: {error}", "Run it with debug_log and report what it says."
        ) from error

"""Where an edge keeps what it knows, for who only wants that: no other setting is looked at, nor any password read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mtls_ambassador.config.errors import ConfigurationError, Problem
from mtls_ambassador.config.sources import Given, chosen_file, gather
from mtls_ambassador.config.values import AuditTarget, check_ledger_url, parse_audit_log

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """What the settings say of it."""

    state_dir: Path | None
    ledger_url: str | None = field(repr=False)
    audit_log: AuditTarget | None
    """Where the edge tells of what operators change; None: nowhere, as far as these settings say."""


def load_place(
    config_file: Path | None,
    environment: Mapping[str, str],
    command_line: Mapping[str, object],
    *,
    default_file: Path = Path("config.yaml"),
) -> Place:
    """Read it from where `sources.load` reads settings, with the same arguments.

    Raises:
        ConfigurationError: the file, or one of these settings, cannot be used.
    """
    keys = ("state_dir", "ledger_url", "ledger_url_file", "audit_log")
    given = gather(keys, chosen_file(config_file, default_file), environment, command_line)
    state = given.get("state_dir")
    return Place(
        Path(str(state.value)) if state else None,
        _read("ledger_url", given.get("ledger_url"), _ledger_url),
        _read("audit_log", given.get("audit_log"), parse_audit_log),
    )


def _ledger_url(value: object) -> str:
    check_ledger_url(str(value))
    return str(value)


def _read(key: str, given: Given | None, read: Callable[[object], _T]) -> _T | None:
    try:
        return None if given is None else read(given.value)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise ConfigurationError((Problem(f"{key} ({given.origin if given else ''})", what, f"{remedy}."),)) from None

"""Where an edge keeps what it knows, for who only wants that: no other setting is looked at, nor any password read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtls_ambassador.config.errors import ConfigurationError, Problem
from mtls_ambassador.config.sources import gather, require_trustworthy
from mtls_ambassador.config.values import check_ledger_url


@dataclass(frozen=True, slots=True)
class Place:
    """What the settings say of it."""

    state_dir: Path | None
    ledger_url: str | None = field(repr=False)


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
    if config_file is None and default_file.exists():
        require_trustworthy(default_file)
        config_file = default_file
    given = gather(("state_dir", "ledger_url", "ledger_url_file"), config_file, environment, command_line)
    state, url = given.get("state_dir"), given.get("ledger_url")
    if url is not None:
        try:
            check_ledger_url(str(url.value))
        except ValueError as error:
            what, _, remedy = str(error).partition("; ")
            raise ConfigurationError((Problem(f"ledger_url ({url.origin})", what, f"{remedy}."),)) from None
    return Place(Path(str(state.value)) if state else None, str(url.value) if url else None)

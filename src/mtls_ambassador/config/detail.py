"""Whether somebody wants faults told in detail, for commands that look at no other setting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.sources import chosen_file, gather, validate


class _Detail(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    debug_log: bool = False


def wants_detail(
    config_file: Path | None,
    environment: Mapping[str, str],
    command_line: Mapping[str, object],
    *,
    default_file: Path = Path("config.yaml"),
) -> bool:
    """`debug_log`, from where `sources.load` reads settings, with the same arguments.

    False also where that cannot be read: whoever asks has another fault to tell already.
    """
    try:
        given = gather(("debug_log",), chosen_file(config_file, default_file), environment, command_line)
        return validate(given, _Detail).debug_log
    except (ConfigurationError, OSError):
        return False

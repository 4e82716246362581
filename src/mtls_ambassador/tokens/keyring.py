"""Where the signing keys come from: the settings, or a key of this edge's own, kept in its state directory."""

from __future__ import annotations

import contextlib
from pathlib import Path

import structlog

from mtls_ambassador.config.errors import ConfigurationError, Problem
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.files import ExistsError, WriteError, write_new
from mtls_ambassador.tokens.keys import TokenKeys, new_key_pem

_log = structlog.get_logger()

FILE = "token-key.pem"


def token_keys(settings: Settings, state: Path) -> TokenKeys | None:
    """The keys for bound tokens; None without `bind_tokens`.

    Raises:
        ConfigurationError: the file in the state directory is there, but cannot be used.
    """
    if not settings.bind_tokens:
        return None
    if settings.token_key is not None:
        return TokenKeys.parse(settings.token_key.get_secret_value())
    return _own_keys(state)


def _own_keys(state: Path) -> TokenKeys:
    file = state / FILE
    pem = new_key_pem()
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(ExistsError):  # of two edges that start at once, both use what the first has written
            write_new(file, pem, 0o600)
            _log.info(f"made a key for bound tokens: {file}")
    except (OSError, WriteError) as error:
        _log.warning(
            f"the state directory {state} cannot be written",
            exc_info=error,
            effect="the key for bound tokens is lost when the edge stops: then every device authenticates anew",
            remedy="Set state_dir to a directory that the edge may write, or set token_key.",
        )
        return TokenKeys.parse(pem.decode())
    _log.info("bound tokens are signed with this edge's own key; several edges need one token_key in common")
    try:
        return TokenKeys.parse(file.read_text(encoding="ascii"))
    except OSError as error:
        problem = Problem(str(file), f"cannot be read: {error.strerror}", "Let the user the edge runs as read it.")
        raise ConfigurationError((problem,)) from error
    except ValueError as error:
        what, _, _ = str(error).partition("; ")
        remedy = "Move it away: the edge makes a new one, and each device authenticates anew."
        raise ConfigurationError((Problem(str(file), what, remedy),)) from None

"""What the edge must remember over restarts: the server certificates it has ever used, since none is a device's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import structlog

from mtls_ambassador.files import WriteError, write_atomically

_log = structlog.get_logger()

_FILE = "server-certificates.json"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_MOST = 1000


def state_directory(named: Path | None, environment: Mapping[str, str]) -> Path:
    """Where the state is kept: what the user said, systemd's `$STATE_DIRECTORY`, or the usual place."""
    if named is not None:
        return named
    given = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/mtls-ambassador")
    home = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME") or "/") / ".local" / "state"
    return Path(home) / "mtls-ambassador"


def remember_server_certificate(directory: Path, fingerprint: str) -> frozenset[str]:
    """Add a server certificate to those remembered; returns them all.

    A state directory that cannot be used is told and not fatal: the current certificate is refused all the same.

    Args:
        directory: The state directory; made if it is not there.
        fingerprint: SHA-256, lower-case hex.
    """
    file = directory / _FILE
    known = _read(file)
    if fingerprint in known:
        return frozenset(known)
    known = [*known, fingerprint][-_MOST:]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(file, json.dumps({"sha256": known}, indent=1).encode() + b"\n", 0o600)
    except (OSError, WriteError) as error:
        _log.warning(
            f"the state directory {directory} cannot be written",
            exc_info=error,
            effect="after a restart, earlier server certificates are not known as such",
            remedy="Set state_dir to a directory that the edge may write.",
        )
    return frozenset(known)


def _read(file: Path) -> list[str]:
    try:
        content = json.loads(file.read_text())
        listed = content["sha256"]
        return [item for item in listed if isinstance(item, str) and _FINGERPRINT.fullmatch(item)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning(f"{file} cannot be read and is begun anew", exc_info=error)
        return []

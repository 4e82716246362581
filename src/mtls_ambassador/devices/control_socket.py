"""The place of the control socket in the state directory, and serving on it, where that can be done."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from mtls_ambassador.errors import Error
from mtls_ambassador.serving import HttpServer, unix_listener

NAME = "control.sock"

_log = structlog.get_logger()


def control_socket(state: Path) -> Path:
    """Where the edge with this state directory listens to operators."""
    return state / NAME


@contextlib.asynccontextmanager
async def serve_operators(app: Any, state: Path) -> AsyncIterator[None]:
    """Serve `app` on the control socket; an edge without one serves devices all the same, and says why.

    Args:
        app: The ASGI application.
        state: The state directory; made if it is not there.
    """
    path = control_socket(state)
    try:
        listener = _listen(path)
    except (Error, OSError) as error:
        what = error.what if isinstance(error, Error) else f"{path}: {error.strerror}"
        _log.warning(
            f"operators' commands cannot reach this edge: {what}",
            effect="`mtls-ambassador devices` reads and writes the ledger itself, and the audit log if --config "
            "names it",
            remedy=(error.remedy if isinstance(error, Error) else "")
            or "Set state_dir to a directory that the edge may write.",
        )
        yield
        return
    made = path.stat().st_ino
    try:
        async with HttpServer(app, listener, peer_uid=True):
            yield
    finally:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == made:
                path.unlink()


def _listen(path: Path) -> socket.socket:
    if len(bytes(path)) > 107:
        raise Error(
            f"the path {path} is too long for a socket ({len(bytes(path))} bytes; the kernel takes 107)",
            "Set state_dir to a directory with a shorter path.",
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        if _answers(path):
            raise Error(
                f"another edge with the state directory {path.parent} is running",
                "Give each edge a state_dir of its own; several may share a ledger by ledger_url.",
            )
        path.unlink()  # of an edge that was killed
    return unix_listener(path)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True
        except OSError:
            return False
    return True

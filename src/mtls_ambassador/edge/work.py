"""The work directory: Envoy's configuration and the Unix sockets, for this user only, gone when the edge stops."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from mtls_ambassador.edge.bootstrap import render_bootstrap, to_json
from mtls_ambassador.edge.plan import EdgePlan, WorkPaths
from mtls_ambassador.edge.secrets import render_device_trust, render_server_secret
from mtls_ambassador.errors import Error
from mtls_ambassador.files import write_atomically

_PREFIX = "mtls-edge-"
_NEW_PREFIX = "mtls-new-"
_LONGEST_SOCKET = 107  # what the kernel takes, sockaddr_un


@contextlib.contextmanager
def work_directory(environment: Mapping[str, str]) -> Iterator[WorkPaths]:
    """A new directory, mode 0700, in systemd's `$RUNTIME_DIRECTORY`, else in the system's temporary directory.

    What an edge that was killed left behind is removed on the way.

    Raises:
        Error: it cannot be made, or its path is too long for a socket.
    """
    base = Path(environment.get("RUNTIME_DIRECTORY", "").split(":")[0] or tempfile.gettempdir())
    with contextlib.ExitStack() as stack:
        try:
            _remove_abandoned(base)
            directory = _locked_directory(base, stack)
        except OSError as error:
            raise Error(
                f"cannot make a work directory in {base}: {error.strerror}",
                "Set TMPDIR to a directory that the edge may write (a small tmpfs is enough).",
            ) from error
        paths = WorkPaths(directory)
        if max(len(bytes(path)) for path in (paths.envoy_admin, paths.egress, paths.admission)) > _LONGEST_SOCKET:
            raise Error(f"the path {directory} is too long for sockets in it", "Set TMPDIR to a shorter path.")
        for path in (paths.server_secret, paths.device_trust):
            path.parent.mkdir(mode=0o700)
        yield paths


def _locked_directory(base: Path, stack: contextlib.ExitStack) -> Path:
    """Make the directory; it is removed, still locked, when `stack` is left.

    It gets its name only when it is locked, so that one of that name which is not locked is abandoned.
    """
    new = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX, dir=base))
    lock = stack.enter_context(os.fdopen(os.open(new / "lock", os.O_RDWR | os.O_CREAT, 0o600)))
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    directory = new.rename(new.with_name(new.name.replace(_NEW_PREFIX, _PREFIX)))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory


def write_configuration(plan: EdgePlan) -> None:
    """Write what Envoy reads. The bootstrap last, since it names the others."""
    write_atomically(plan.paths.server_secret, to_json(render_server_secret(plan)), 0o600)
    write_atomically(plan.paths.device_trust, to_json(render_device_trust(plan)), 0o600)
    write_atomically(plan.paths.bootstrap, to_json(render_bootstrap(plan)), 0o600)


def _remove_abandoned(base: Path) -> None:
    for directory in base.glob(f"{_NEW_PREFIX}*"):
        # One that was killed before it could lock. An hour is longer than anybody needs between two system calls.
        with contextlib.suppress(OSError):
            status = directory.stat(follow_symlinks=False)
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > 3600:
                shutil.rmtree(directory, ignore_errors=True)
    for directory in base.glob(f"{_PREFIX}*"):
        try:
            if directory.stat(follow_symlinks=False).st_uid != os.geteuid():
                continue
            with (directory / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            continue  # in use, or just being removed by another edge

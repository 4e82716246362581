"""Programs that a bench starts: the product, the lab's Mender Server, and whatever they are compared with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.measure import PROCESSORS

USER, PASSWORD = "mtls@mender.io", "bench-password"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PRODUCT = (sys.executable, "-m", "mtls_ambassador")


class ProgramError(Exception):
    """A program does not serve; with what it said."""


@contextlib.contextmanager
def edge(directory: Path, backend_port: int, settings: Mapping[str, object], *, pinned: bool = True) -> Iterator[int]:
    """The product in front of a Mender Server on loopback; its process.

    Args:
        directory: For its files; made.
        backend_port: The Mender Server's.
        settings: Certificates, `listen`, and what shall not be as usual.
        pinned: Whether it runs on the processor of what is compared; else on all.

    Raises:
        ProgramError: it does not serve.
    """
    directory.mkdir()
    given = {
        "health_listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "mender_backend": f"http://127.0.0.1:{backend_port}",
        "mender_user": USER,
        "mender_pass": PASSWORD,
        "state_dir": directory / "state",
        **settings,
    }
    environment = {f"MTLS_{key.upper()}": str(value) for key, value in given.items()}
    with running(_PRODUCT, directory, environment, pinned=pinned) as process:
        _await(process, directory, lambda: "the edge serves devices" in _output(directory))
        yield process.pid


@contextlib.contextmanager
def lab(directory: Path) -> Iterator[int]:
    """The embedded Mender Server; its port.

    Raises:
        ProgramError: it does not serve.
    """
    directory.mkdir()
    port = free_port()
    command = [*_PRODUCT, "lab", "server", "--listen", f"127.0.0.1:{port}"]
    with running(command, directory, {"LAB_PASSWORD": PASSWORD}, pinned=False) as process:
        await_port(process, port, directory)
        yield port


@contextlib.contextmanager
def running(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    *,
    pinned: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the time of a `with`; where it is measured, on the processor of those that are."""
    before = os.sched_getaffinity(0)
    with (directory / "output").open("wb") as output:
        if pinned:
            # Inherited. Before the start, since the edge takes as many workers as it finds processors.
            os.sched_setaffinity(0, PROCESSORS.peers)
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env={"PATH": PATH, "TMPDIR": str(directory), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, before)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    """Wait until a program listens.

    Raises:
        ProgramError: it ended, or does not within 30 seconds.
    """

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    _await(process, directory, answers)


def program(name: str) -> str:
    """Where a program is; some are where only root looks."""
    return shutil.which(name, path=PATH) or name


def free_port() -> int:
    """A port of loopback on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(process: subprocess.Popen[bytes], directory: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ProgramError(f"{process.args!r} does not serve:\n{_output(directory)}")
        time.sleep(0.02)


def _output(directory: Path) -> str:
    return (directory / "output").read_text(encoding="utf-8", errors="replace")

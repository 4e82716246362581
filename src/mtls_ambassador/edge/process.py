"""One Envoy process: started so that it cannot outlive us, watched by handle, never signalled by a recycled number."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import IO

import structlog

from mtls_ambassador.edge.binary import EnvoyBinary
from mtls_ambassador.edge.errors import EdgeError
from mtls_ambassador.edge.plan import WorkPaths

# Becomes Envoy, after asking the kernel to kill it when its parent dies (prctl(2), PR_SET_PDEATHSIG is 1, SIGKILL 9).
# A program of its own rather than code between fork and exec, which is unsafe once a process has threads.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died before it could be watched")
os.execve(sys.argv[2], sys.argv[2:], {})
"""
_LONGEST_LINE = 1 << 18

_log = structlog.get_logger()


class EnvoyProcess:
    """Envoy, running. Make it with `start`, in the main thread: its death signal is tied to the thread that forks."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    def start(cls, binary: EnvoyBinary, paths: WorkPaths, *, concurrency: int) -> EnvoyProcess:
        """Start Envoy with the bootstrap in `paths`, `concurrency` worker threads and an empty environment.

        Raises:
            EdgeError: the program cannot be executed.
        """
        command = [
            sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()),
            str(binary.path.absolute()), "--config-path", str(paths.bootstrap),
            "--concurrency", str(concurrency),
            "--disable-hot-restart", "--reject-unknown-dynamic-fields",
            # Never lower, whatever debug_log says: at debug level Envoy prints device tokens.
            "--log-level", "warning", "--log-format", "%l\t%n\t%v",
            # Otherwise a refusal would be logged up to ten seconds late.
            "--file-flush-interval-msec", "200",
        ]  # fmt: skip
        _log.debug("starting envoy", command=command[5:])
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                start_new_session=True,  # Ctrl-C in a terminal must not reach it before we have drained it
            )
        except OSError as error:
            raise EdgeError(f"cannot start {binary.path}: {error.strerror}", "Check envoy_path.") from error
        return cls(popen)

    @property
    def pid(self) -> int:
        """Its process number, for people to read; never used for signals."""
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """As `subprocess` has it (negative: the signal that ended it); None while it runs."""
        return self._exited.result() if self._exited.done() else None

    async def wait(self) -> int:
        """Wait until it has ended; returns the exit status."""
        return await asyncio.shield(self._exited)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this very process, or to nobody if it has ended."""
        if not self._exited.done():
            with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
                signal.pidfd_send_signal(self._pidfd, number)

    async def output(self) -> AsyncIterator[bytes]:
        """Lines of its standard output: access logs."""
        async for line in _lines(self._popen.stdout):
            yield line

    async def errors(self) -> AsyncIterator[bytes]:
        """Lines of its standard error: its own log."""
        async for line in _lines(self._popen.stderr):
            yield line

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        status = self._popen.wait()
        os.close(self._pidfd)
        if not self._exited.done():
            self._exited.set_result(status)


async def _lines(pipe: IO[bytes] | None) -> AsyncIterator[bytes]:
    if pipe is None:
        return
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                continue  # longer than any line of ours: dropped, and reading goes on
            if not line:
                return
            yield line.rstrip(b"\n")
    finally:
        transport.close()

"""The real `mtls-ambassador` program as a process, for what only a process can show: signals, users, death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.secrets_in_logs import assert_no_secrets, private_keys_in

_SERVES = re.compile(r"the edge serves devices listen=\S*?:(\d+)")
_HEALTH = re.compile(r"health=\S*?:(\d+)")

PROGRAM = (sys.executable, "-m", "mtls_ambassador")


class EdgeProcess:
    """Runs for the time of an `async with`, which begins when it serves.

    Args:
        environment: Its whole environment but `PATH`.
        command: What to run; the program by default.
        directory: The working directory.
        wait: Whether to wait until it serves.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        directory: Path,
        command: Sequence[str] = PROGRAM,
        wait: bool = True,
    ) -> None:
        self._environment = {"PATH": os.environ.get("PATH", ""), **environment}
        self._command = command
        self._directory = directory
        self._wait = wait
        self._reader: asyncio.Task[None] | None = None
        self.process: asyncio.subprocess.Process
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self.port = 0
        self.health_port = 0

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            cwd=self._directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read())
        if self._wait:
            line = await self.line("the edge serves devices")
            self.port = int(_SERVES.search(line)[1])  # type: ignore[index]
            self.health_port = int(_HEALTH.search(line)[1])  # type: ignore[index]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        assert self._reader is not None
        await self._reader
        if kind is None:
            passwords = {value for name, value in self._environment.items() if name.endswith(("_PASS", "_TOKEN"))}
            assert_no_secrets(self.log_text(), passwords | private_keys_in(self._directory))

    def log_text(self) -> str:
        """Everything it printed."""
        return "\n".join(self.lines)

    async def line(self, word: str, seconds: float = 20) -> str:
        """Wait for the first line of the log that holds `word`.

        Raises:
            AssertionError: it did not come in time, or the process ended without it.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for line in self.lines:
                        if word in line:
                            return line
                    if self._reader is not None and self._reader.done():
                        break
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        raise AssertionError(f"no line with {word!r} in:\n{self.log_text()}")

    def envoy_pids(self) -> list[int]:
        """Its child processes that are Envoy."""
        return [pid for pid in _children(self.process.pid) if _name(pid) == "envoy"]

    def assert_runs_as(self, user: int) -> None:
        """Fail if the process has another user id, or any capability."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in status
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))
            self._changed.set()
        self._changed.set()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *_children(int(child))]
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""

"""Keeps one Envoy running: starts it, waits until it serves, starts it again when it dies, drains it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

import aiohttp
import structlog

from mtls_ambassador.edge.admin import EnvoyAdmin
from mtls_ambassador.edge.binary import EnvoyBinary
from mtls_ambassador.edge.errors import EdgeError
from mtls_ambassador.edge.held_back import held_back
from mtls_ambassador.edge.narrator import Narrator, OnAlarm, forget_alarm
from mtls_ambassador.edge.plan import EdgePlan
from mtls_ambassador.edge.process import EnvoyProcess

_log = structlog.get_logger()

_START_TIMEOUT = 60.0
_STARTS_BEFORE_GIVING_UP = 5
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_SECRETS_TIMEOUT = 6.0
"""Seconds; Envoy itself waits five for a secret before it is ready without."""
_LOOK_EVERY = 10.0
_LOOK_WHILE_DRAINING = 0.05
_HELD_BACK = 1.0
"""Seconds for TCP handshakes in progress to be finished and accepted: what a peer waits for an answer at first."""
_AFTER_GRACE = 0.25
"""Seconds that short requests in progress may take beyond the grace."""
_STEADY = 60.0
"""Seconds of service after which an earlier death counts no more."""


class State(StrEnum):
    """What Envoy is doing."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"
    STOPPED = "stopped"


class Supervisor:
    """Envoy for the time of an `async with`; it serves when the block is entered.

    Args:
        binary: The program.
        plan: What was rendered for it; the files are there already.
        concurrency: Worker threads.
        on_alarm: Told of refusals that mean theft or forgery; see `Narrator`.
        before_restart: Writes the configuration anew, since files it names may have changed meanwhile.

    Attributes:
        state: What Envoy is doing.
        restarts: How often it was started again.
        failed: Done with an EdgeError when it cannot be kept running.
    """

    def __init__(
        self,
        binary: EnvoyBinary,
        plan: EdgePlan,
        *,
        concurrency: int,
        on_alarm: OnAlarm = forget_alarm,
        before_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._binary = binary
        self._plan = plan
        self._concurrency = concurrency
        self._before_restart = before_restart
        self._narrator = Narrator(plan.access_log, on_alarm)
        self._admin = EnvoyAdmin(plan.paths)
        self._process: EnvoyProcess | None = None
        self._followers: list[asyncio.Task[None]] = []
        self._last_words: list[str] = []
        self._watchers: tuple[asyncio.Task[None], ...] = ()
        self.state = State.STARTING
        self.restarts = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        """Start Envoy and wait until it serves.

        Raises:
            EdgeError: it cannot start; the text has its last words.
        """
        try:
            await self._start()
        except BaseException:
            await self._kill()
            raise
        self._watchers = (
            asyncio.create_task(self._watch(), name="envoy-watcher"),
            asyncio.create_task(self._watch_overflow(), name="envoy-overflow-watcher"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watcher in self._watchers:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        await self._kill()
        self.failed.cancel()
        self.state = State.STOPPED

    @property
    def pid(self) -> int | None:
        """The number of the running process."""
        return self._process.pid if self._process else None

    async def drain(self, grace: float, enough: Callable[[], Awaitable[object]]) -> None:
        """Accept nothing more, let what is in progress finish, and return when it has or time is up.

        Idle connections are not waited for. Nor does Envoy close them: its idle timeout takes a second over each, in
        which a request on it is lost (`delayed_close_timeout`).

        Args:
            grace: Seconds that requests get.
            enough: Awaited beside it; when it returns, so does this (a second signal, say).
        """
        if self.state is not State.READY:
            return
        self.state = State.DRAINING
        impatient = asyncio.ensure_future(enough())
        fewest = sys.maxsize
        try:
            async with asyncio.timeout(grace):
                await self._stop_accepting(grace, impatient)
                while not impatient.done():
                    traffic = await self._admin.traffic()
                    if traffic.idle:
                        _log.info("no request is in progress", idle_connections=traffic.connections)
                        return
                    fewest = min(fewest, traffic.requests)
                    await asyncio.sleep(_LOOK_WHILE_DRAINING)
        except TimeoutError:
            await self._cut(grace, fewest)
        except (aiohttp.ClientError, OSError) as error:
            _log.warning("envoy could not be asked to drain", exc_info=error)
        finally:
            impatient.cancel()

    async def _stop_accepting(self, grace: float, impatient: asyncio.Future[object]) -> None:
        await self._admin.close_after_answers()
        with held_back(self._plan, listeners=self._concurrency):
            await asyncio.wait((impatient,), timeout=min(_HELD_BACK, grace / 4))
            await self._admin.close_listeners()

    async def _cut(self, grace: float, fewest: int) -> None:
        """Tell what is cut, at the moment when it is only what takes long: when there were never fewer requests."""
        deadline = asyncio.get_running_loop().time() + _AFTER_GRACE
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            while (traffic := await self._admin.traffic()).requests > fewest:
                if asyncio.get_running_loop().time() > deadline:
                    break
            if traffic.requests:
                _log.warning(
                    f"{traffic.requests} requests were not finished within shutdown_grace and are cut", grace=grace
                )
            elif not traffic.idle:
                _log.info(f"{traffic.connections} connections are closed", grace=grace)

    async def _start(self) -> None:
        self._last_words = []
        process = EnvoyProcess.start(self._binary, self._plan.paths, concurrency=self._concurrency)
        self._process = process
        self._followers = [
            asyncio.create_task(self._narrator.follow_output(process.output()), name="envoy-access-log"),
            asyncio.create_task(self._narrator.follow_errors(process.errors(), self._last_words), name="envoy-log"),
        ]
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT
        while not await self._admin.ready():
            if process.exit_status is not None:
                await asyncio.wait(self._followers, timeout=2)
                raise EdgeError(
                    f"Envoy ended while starting ({_told(process.exit_status)}): {self._reason()}",
                    "If the reason names a port or file, mend that; else run with debug_log and report it.",
                )
            if asyncio.get_running_loop().time() > deadline:
                raise EdgeError(f"Envoy was not ready after {_START_TIMEOUT:.0f} s", "See its log lines above.")
            await asyncio.sleep(0.02)
        await self._require_secrets(process)
        self.state = State.READY

    async def _require_secrets(self, process: EnvoyProcess) -> None:
        """Envoy calls itself ready without a certificate, too, and would refuse every device: we do not."""
        deadline = asyncio.get_running_loop().time() + _SECRETS_TIMEOUT
        while process.exit_status is None:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                if await self._admin.secrets_taken():
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise EdgeError(
                    f"Envoy does not take the server certificate or the trust bundle: {self._reason()}",
                    "Check that server_key still belongs to server_cert, and that both may be read.",
                )
            await asyncio.sleep(0.02)
        raise EdgeError(f"Envoy ended while starting ({_told(process.exit_status)}): {self._reason()}")

    async def _watch(self) -> None:
        """Keep it running; a fault in here ends the edge, for no data plane may be without one who looks after it."""
        try:
            await self._keep_running()
        except EdgeError as error:
            self.failed.set_exception(error)
        except Exception as error:
            self.failed.set_exception(EdgeError(f"the supervisor failed: {type(error).__name__}: {error}"))

    async def _keep_running(self) -> None:
        """Start it again whenever it ends, a little later each time, until it cannot be started any more."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            process = self._process
            if process is None:
                return
            since = loop.time()
            status = await process.wait()
            if self.state in (State.DRAINING, State.STOPPED):
                return
            self.state = State.RESTARTING
            if loop.time() - since > _STEADY:
                failures = 0
            _log.error(f"envoy ended unexpectedly ({_told(status)}) and is started again", restarts=self.restarts + 1)
            while True:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**failures) if failures else 0.0
                await asyncio.sleep(pause)
                failures += 1
                self.restarts += 1
                try:
                    await self._kill()
                    self._before_restart()
                    await self._start()
                except EdgeError as error:
                    _log.error(str(error), attempt=failures)
                    if failures >= _STARTS_BEFORE_GIVING_UP:
                        raise EdgeError(f"Envoy could not be kept running: {error.what}", error.remedy) from error
                else:
                    _log.info("envoy serves again", pid=self.pid)
                    break

    async def _watch_overflow(self) -> None:
        """Say what no request says: that devices are turned away because there are too many, what the log left out."""
        told = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            self._narrator.summarise()
            try:
                count = await self._admin.turned_away()
            except (aiohttp.ClientError, OSError, TimeoutError):
                continue  # it is being started again
            if count > told:
                _log.warning(
                    f"{count - told} connections were closed at once: there are too many",
                    limit=self._plan.capacity.connections,
                    remedy="Raise the limit of open files (LimitNOFILE=), or add a replica.",
                )
            told = count

    async def _kill(self) -> None:
        if self._process is None:
            return
        self._process.send(signal.SIGTERM)  # at once, but it writes its last log lines
        try:
            await asyncio.wait_for(self._process.wait(), timeout=2)
        except TimeoutError:
            self._process.send(signal.SIGKILL)
            await self._process.wait()
        for follower in self._followers:
            # What it said before it ended is still told; a pipe that somebody else holds open is not waited for.
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(follower, timeout=1)
        self._process = None

    def _reason(self) -> str:
        """The line that says why, out of Envoy's last words."""
        errors = [line for line in self._last_words if line.startswith(("critical", "error"))]
        line = (errors or self._last_words or ["it said nothing"])[-1]
        message = line.split("\t")[-1]
        # After that comes the whole configuration, in Envoy's own notation.
        found = re.fullmatch(r"error `(.*)` initializing config '.*", message)
        return found[1] if found else message


def _told(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"

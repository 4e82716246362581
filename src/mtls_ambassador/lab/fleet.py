"""Many simulated devices in one process, each with habits, and the statistics of what they met."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.installation import Artifacts, install
from mtls_ambassador.lab.statistics import Statistics
from mtls_ambassador.lab.transport import DeviceError

_LAST_CALLS = 10.0
"""Seconds that calls under way get at the end."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What a device does of its own accord; all in seconds.

    Attributes:
        update_interval: Between two update checks.
        inventory_interval: Between two inventories.
        retry_interval: After a failure.
        reauthenticate_every: Between two auth requests without need; None for never, as the real clients.
        websocket: Whether it holds a WebSocket open, as mender-connect.
        ramp_up: The time over which the devices start, one after the other.
    """

    update_interval: float = 20.0
    inventory_interval: float = 60.0
    retry_interval: float = 5.0
    reauthenticate_every: float | None = None
    websocket: bool = False
    ramp_up: float = 0.0


@dataclass(slots=True)
class _Member:
    """One device of the fleet, and what wakes it."""

    device: SimulatedDevice
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Fleet:
    """Runs devices until told to stop.

    Args:
        make: Gives the device of a number, from 0 on; its observer is best `statistics.call`.
        count: How many.
        habits: What each does.
        statistics: Where failures go.
    """

    def __init__(
        self, make: Callable[[int], SimulatedDevice], count: int, habits: Habits, statistics: Statistics
    ) -> None:
        self._habits = habits
        self._statistics = statistics
        self._members = [_Member(make(number)) for number in range(count)]
        self._stopping = False
        self._missing: set[int] = set()
        self._called_at = 0.0
        self.artifacts = Artifacts()
        """What was downloaded."""
        self.sockets = 0
        """WebSockets open now."""
        self.all_back_after: list[float] = []
        """Seconds from each `authenticate_all` to the last device's token."""

    def __len__(self) -> int:
        return len(self._members)

    @property
    def authenticated(self) -> int:
        """How many devices have a token now."""
        return sum(member.device.is_authenticated for member in self._members)

    async def run(self) -> None:
        """Start all devices, and let them go on until `stop`.

        Raises:
            Error: a device's key or certificate cannot be used.
        """
        tasks = [asyncio.create_task(self._live(number)) for number in range(len(self._members))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """Let calls under way end, and nothing begin."""
        self._stopping = True
        self._wake_all()

    def authenticate_all(self) -> None:
        """Let all devices authenticate at the same moment, as after a power cut."""
        self._called_at = time.monotonic()
        self._missing = {id(member) for member in self._members if member.device.is_authenticated}
        for member in self._members:
            member.device.forget_token()
        self._wake_all()

    def _wake_all(self) -> None:
        for member in self._members:
            member.wake.set()

    async def _live(self, number: int) -> None:
        member = self._members[number]
        await self._pause(member, self._habits.ramp_up * number / len(self._members))
        if self._stopping:
            return
        async with member.device, contextlib.AsyncExitStack() as stack:
            if self._habits.websocket:
                socket = asyncio.create_task(self._hold_socket(member))
                stack.push_async_callback(_ended, socket)
            await self._calls(member)

    async def _calls(self, member: _Member) -> None:
        now = asyncio.get_running_loop().time
        habits = self._habits
        inventory_due = update_due = now()
        renewal_due = float("inf")
        while not self._stopping:
            device = member.device
            try:
                if not device.is_authenticated or now() >= renewal_due:
                    await device.authenticate()
                    renewal_due = now() + (habits.reauthenticate_every or float("inf"))
                    self._is_back(member)
                if now() >= inventory_due and not self._stopping:
                    await device.send_inventory()
                    inventory_due = now() + habits.inventory_interval
                if now() >= update_due and not self._stopping:
                    offered = await device.check_update()
                    update_due = now() + habits.update_interval
                    if offered is not None:
                        await install(device, offered, self.artifacts)
                self._is_back(member)
                pause = min(inventory_due, update_due, renewal_due) - now()
            except DeviceError as error:
                self._statistics.error(error.what)
                pause = habits.retry_interval
            await self._pause(member, pause)

    async def _hold_socket(self, member: _Member) -> None:
        """Keep a WebSocket open, and say so when it ends: its peer should have no reason."""
        while not self._stopping:
            if member.device.is_authenticated:
                try:
                    async with member.device.connect() as socket:
                        self.sockets += 1
                        try:
                            async for _message in socket:
                                pass
                        finally:
                            self.sockets -= 1
                    if not self._stopping:
                        self._statistics.error(f"the WebSocket was closed: code {socket.close_code}")
                except DeviceError as error:
                    self._statistics.error(error.what)
            await asyncio.sleep(self._habits.retry_interval)

    async def _pause(self, member: _Member, seconds: float) -> None:
        """Wait, or be woken."""
        if seconds > 0 and not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await member.wake.wait()
        if not self._stopping:
            member.wake.clear()

    def _is_back(self, member: _Member) -> None:
        if member.device.is_authenticated and id(member) in self._missing:
            self._missing.discard(id(member))
            if not self._missing:
                self.all_back_after.append(time.monotonic() - self._called_at)


async def run_for(fleet: Fleet, seconds: float) -> None:
    """Run a fleet for so long, or until something else stops it.

    Raises:
        Error: a device's key or certificate cannot be used, or calls under way did not end.
    """
    running = asyncio.ensure_future(fleet.run())
    try:
        await asyncio.wait((running,), timeout=seconds)
        fleet.stop()
        done, _ = await asyncio.wait((running,), timeout=_LAST_CALLS)
        if not done:
            raise Error(f"calls under way did not end within {_LAST_CALLS:g} s")
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

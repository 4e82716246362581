"""Preauthorising the keys of a manifest in Mender, for devices that come without an edge; never with `force`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from mtls_ambassador.config.values import Rate
from mtls_ambassador.devices.keys import DeviceKey, same_key
from mtls_ambassador.devices.rows import Entry
from mtls_ambassador.errors import Error
from mtls_ambassador.mender.errors import ManagementForbidden, ManagementUnavailable, RequestRefused, UntrustedServer
from mtls_ambassador.mender.management import AuthSetStatus, Management, MenderDevice

AT_ONCE = 8
"""Calls under way: enough for the rate where an answer takes long."""
_TRIES = 4
_GOOD = (AuthSetStatus.ACCEPTED, AuthSetStatus.PREAUTHORIZED)


class Kind(StrEnum):
    """What became of a line."""

    CREATED = "created"
    KNOWN = "known"
    """Mender had this identity already; what it has was not touched."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one line."""

    line: int
    kind: Kind
    reason: str = ""
    """Why it failed."""


class Preauthorisation:
    """One run over a manifest.

    Nothing is kept between runs: Mender answers 409 to what it has, so that a run may end anywhere and be run again.

    Args:
        management: Whom to ask.
        rate: Calls at most; None: as fast as Mender answers.
        check: Whether to look what Mender has of an identity that it knows, at one more call each.
        stop: Set from outside to stop; calls under way are still answered.
        told: Is told the outcome of each line.
        notice: Is told why the run waits.
    """

    def __init__(
        self,
        management: Management,
        *,
        rate: Rate | None,
        check: bool,
        stop: asyncio.Event,
        told: Callable[[Outcome], object],
        notice: Callable[[str], object],
    ) -> None:
        self._management = management
        self._between = 1 / rate.per_second if rate else 0.0
        self._check = check
        self._stop = stop
        self._told = told
        self._notice = notice
        self._next_turn = 0.0
        self._quiet_until = 0.0
        self._under_way = set[int]()
        self.trouble: Error | None = None
        """Why it stopped before the end, where nobody asked it to."""
        self.next_line: int | None = None
        """The first line without an outcome; None: it came to the end."""

    async def run(self, entries: Iterable[Entry[DeviceKey]]) -> None:
        """Go through the entries, in ascending order of their lines."""
        left = iter(entries)

        async def work() -> None:
            while not self._stop.is_set() and (entry := next(left, None)) is not None:
                self._under_way.add(entry.line)
                outcome = await self._outcome(entry)
                if outcome is None:
                    return
                self._under_way.discard(entry.line)
                self._told(outcome)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
        rest = next(left, None)
        self.next_line = min(self._under_way, default=rest.line if rest else None)

    async def _outcome(self, entry: Entry[DeviceKey]) -> Outcome | None:
        """What becomes of a line; None: the run ends before that is known."""
        failures = 0
        while await self._turn():
            try:
                return await self._ask(entry)
            except RequestRefused as error:
                return Outcome(entry.line, Kind.FAILED, error.what)
            except (ManagementForbidden, UntrustedServer) as error:
                self._give_up(error)
            except ManagementUnavailable as error:
                failures += error.label != "busy"
                if error.label in ("credentials_refused", "two_factor") or failures == _TRIES:
                    self._give_up(error)
                    continue
                pause = error.retry_after if error.label == "busy" else 2.0**failures
                self._say(f"{error.what}; trying again in {pause:.0f} s", pause)
                await self._wait(pause)
        return None

    async def _ask(self, entry: Entry[DeviceKey]) -> Outcome | None:
        key, request_id = entry.claim, str(uuid.uuid4())
        device_id = await self._management.preauthorise(key.attributes, key.pem, request_id)
        if device_id is None:
            return Outcome(entry.line, Kind.CREATED)
        if not self._check:
            return Outcome(entry.line, Kind.KNOWN)
        if not await self._turn():
            return None
        fault = ["Mender had this device, and has it no more: run the command again"]

        def look(device: MenderDevice | None) -> None:
            if device is not None:
                fault[:] = _fault(device, key)

        await self._management.accept_where(device_id, look, request_id)
        return Outcome(entry.line, Kind.FAILED, fault[0]) if fault else Outcome(entry.line, Kind.KNOWN)

    async def _turn(self) -> bool:
        """Wait until the rate allows a call; False: the run ends before."""
        now = asyncio.get_running_loop().time()
        mine = max(self._next_turn, now)
        self._next_turn = mine + self._between
        return await self._wait(mine - now)

    async def _wait(self, seconds: float) -> bool:
        """Wait, unless the run ends before: then False."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            except TimeoutError:
                pass
        return not self._stop.is_set()

    def _give_up(self, error: Error) -> None:
        self.trouble = self.trouble or error
        self._stop.set()

    def _say(self, text: str, pause: float) -> None:
        """Once for all that wait for the same."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + pause
            self._notice(text)


def _fault(device: MenderDevice, key: DeviceKey) -> list[str]:
    """Why a device that Mender knows would not get in with this key; empty: it would."""
    found = [item.status for item in device.auth_sets if same_key(item.public_key_pem, key)]
    if device.decommissioning:
        return [f"Mender is decommissioning this device ({device.id}): run the command again when it is gone"]
    if not found:
        return [f"Mender knows this identity with another key (device {device.id}): look at it there"]
    if found[0] not in _GOOD:
        return [f"Mender has this key as {found[0]} (device {device.id}): accept it there if it is right"]
    return []

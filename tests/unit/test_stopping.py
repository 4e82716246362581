"""`stopping`: the first signal asks, the second insists, and one that comes too early is not lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

from mtls_ambassador.stopping import StopSignals


@contextlib.asynccontextmanager
async def slow(left: list[str]) -> AsyncIterator[str]:
    try:
        await asyncio.sleep(60)
        yield "never"
    finally:
        left.append("cleaned up")


async def test_the_first_asks_and_the_second_insists() -> None:
    signals = StopSignals()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(signals.stop.wait(), 5)
    assert not signals.impatient.is_set()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(signals.impatient.wait(), 5)


async def test_a_signal_ends_what_has_not_begun() -> None:
    signals, left = StopSignals(), list[str]()
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
    async with contextlib.AsyncExitStack() as stack:
        assert await asyncio.wait_for(signals.enter(stack, slow(left)), 5) is None
        assert left == ["cleaned up"]


async def test_what_begins_in_time_is_entered() -> None:
    signals = StopSignals()
    async with contextlib.AsyncExitStack() as stack:
        assert await signals.enter(stack, contextlib.nullcontext("here")) == "here"

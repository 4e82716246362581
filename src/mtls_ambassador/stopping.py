"""The process's own end: SIGTERM and SIGINT, once for a graceful stop, twice for an immediate one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeVar

_T = TypeVar("_T")


class StopSignals:
    """Listens for both signals in the running loop; handlers only set events.

    Attributes:
        stop: Set by the first.
        impatient: Set by the second.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.impatient = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        (self.impatient if self.stop.is_set() else self.stop).set()

    async def enter(self, stack: AsyncExitStack, context: AbstractAsyncContextManager[_T]) -> _T | None:
        """Enter `context` on `stack`; when the first signal comes before it is entered, give up and return None."""
        entering = asyncio.ensure_future(stack.enter_async_context(context))
        stopped = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait((entering, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not entering.done():
            entering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await entering
            return None
        return await entering

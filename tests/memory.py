"""How much memory a process has."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Memory:
    """Resident memory of a process over a time, in bytes."""

    before: int
    most: int

    @property
    def growth(self) -> int:
        """How much more it had at most than before."""
        return self.most - self.before


def resident(pid: int) -> int:
    """Resident memory of a process now, in bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


@contextlib.asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Memory]:
    """Look at a process's memory twenty times a second while the block lasts."""
    before = resident(pid)
    memory = Memory(before, before)

    async def look() -> None:
        while True:
            memory.most = max(memory.most, resident(pid))
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield memory
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        memory.most = max(memory.most, resident(pid))

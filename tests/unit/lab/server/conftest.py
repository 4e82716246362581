"""A server with a logged-in user, for each test its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import pytest

from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.unit.lab.server.peer import PASSWORD, USER, Peer


class Clock:
    """A clock that stands until it is set forward."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


class Start(Protocol):
    def __call__(self, **settings: Any) -> Any: ...


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(clock: Clock) -> Start:
    """Starts a server with these settings and logs in."""

    @asynccontextmanager
    async def started(**settings: Any) -> AsyncIterator[Peer]:
        chosen = LabSettings(**{"user": USER, "password": PASSWORD, **settings})
        async with LabServer(chosen, clock=clock) as lab, aiohttp.ClientSession() as http:
            peer = Peer(lab, http)
            if not chosen.two_factor:
                await peer.log_in()
            yield peer

    return started


@pytest.fixture
async def peer(start: Start) -> AsyncIterator[Peer]:
    async with start() as found:
        yield found

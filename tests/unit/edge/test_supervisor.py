"""`edge.supervisor`: the words it finds for an end. What it does with a real Envoy is tested in tests/integration."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mtls_ambassador.edge.admin import EnvoyAdmin, Traffic
from mtls_ambassador.edge.binary import EnvoyBinary
from mtls_ambassador.edge.supervisor import State, Supervisor, _told
from tests.unit.edge.plans import plan


@pytest.mark.parametrize(("status", "text"), [(0, "status 0"), (1, "status 1"), (-9, "signal SIGKILL")])
def test_an_exit_status_in_words(status: int, text: str) -> None:
    assert _told(status) == text


@pytest.mark.parametrize(
    ("last_words", "reason"),
    [
        ([], "it said nothing"),
        (["warning\tmain\told option"], "old option"),
        (
            [
                "critical\tmain\terror `cannot bind '[::]:1': in use` initializing config 'goo.gle/debugproto  ",
                "admin {",
            ],
            "cannot bind '[::]:1': in use",
        ),
        (["critical\tmain\tcannot bind", "warning\tmain\tcaught SIGTERM"], "cannot bind"),
        (["error\tmain\tfirst", "critical\tmain\tsecond", "plain"], "second"),
        (["no tab at all"], "no tab at all"),
    ],
)
async def test_the_reason_is_the_last_error(last_words: list[str], reason: str) -> None:
    supervisor = Supervisor(EnvoyBinary(Path("/none"), "1.39.0"), plan(), concurrency=1)
    supervisor._last_words = last_words
    assert supervisor._reason() == reason


async def test_before_it_is_entered_nothing_runs() -> None:
    supervisor = Supervisor(EnvoyBinary(Path("/none"), "1.39.0"), plan(), concurrency=1)
    assert supervisor.state is State.STARTING
    assert supervisor.pid is None
    assert supervisor.restarts == 0
    assert not supervisor.failed.done()


async def test_what_does_not_serve_needs_no_draining() -> None:
    supervisor = Supervisor(EnvoyBinary(Path("/none"), "1.39.0"), plan(), concurrency=1)

    async def never() -> None:
        raise AssertionError("nobody is asked")

    await supervisor.drain(10, never)
    assert supervisor.state is State.STARTING


class Draining(EnvoyAdmin):
    """An Envoy with so many requests in progress at each look; the last number stays."""

    def __init__(self, requests: Sequence[int]) -> None:
        self._requests = list(requests)
        self.asked: list[str] = []

    async def close_after_answers(self) -> None:
        self.asked.append("close after answers")

    async def close_listeners(self) -> None:
        self.asked.append("close listeners")

    async def traffic(self) -> Traffic:
        requests = self._requests.pop(0) if len(self._requests) > 1 else self._requests[0]
        return Traffic(connections=9, new=0, requests=requests, unsent=0)


async def drained(admin: Draining, grace: float) -> list[str]:
    """What is told when an Envoy is drained."""
    elsewhere = plan(listen="192.0.2.1:1")
    supervisor = Supervisor(EnvoyBinary(Path("/none"), "1.39.0"), elsewhere, concurrency=1)
    supervisor._admin = admin
    supervisor.state = State.READY
    with capture_logs() as logs:
        await supervisor.drain(grace, asyncio.Event().wait)
    return [line["event"] for line in logs if line["log_level"] != "debug"]


async def test_draining_ends_when_no_request_is_in_progress() -> None:
    admin = Draining([2, 1, 0])
    assert await drained(admin, 60) == ["no request is in progress"]
    assert admin.asked == ["close after answers", "close listeners"]


async def test_at_the_end_of_the_grace_short_requests_are_still_answered() -> None:
    class BusyToTheEnd(Draining):
        async def traffic(self) -> Traffic:
            if self._requests == [2]:
                self._requests = [3, 2, 1]
                await asyncio.Event().wait()  # the grace ends meanwhile
            return await super().traffic()

    assert await drained(BusyToTheEnd([2, 1, 1, 2]), 0.5) == [
        "1 requests were not finished within shutdown_grace and are cut"
    ]


async def test_a_grace_of_nothing_cuts_at_once() -> None:
    assert await drained(Draining([7]), 0) == ["7 requests were not finished within shutdown_grace and are cut"]

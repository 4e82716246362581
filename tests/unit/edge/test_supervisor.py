"""`edge.supervisor`: the words it finds for an end. What it does with a real Envoy is tested in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest

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

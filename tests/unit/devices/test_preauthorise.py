"""A run over a manifest: how fast it asks, what it does when Mender is in trouble, and where it says to go on."""

from __future__ import annotations

import asyncio
import json

import pytest

from mtls_ambassador.config.values import Rate
from mtls_ambassador.devices.keys import DeviceKey
from mtls_ambassador.devices.preauthorise import AT_ONCE, Kind, Outcome, Preauthorisation
from mtls_ambassador.devices.rows import Entry
from mtls_ambassador.mender.egress import Answer
from mtls_ambassador.mender.errors import UntrustedServer, UpstreamUnavailable
from mtls_ambassador.mender.management import Management
from mtls_ambassador.mender.session import PersonalAccessToken
from tests.unit.mender.scripted_egress import ScriptedEgress, Sent, answer
from tests.virtual_time import in_virtual_time

ID = "5a1a6f4e-6c0d-4e5b-9b1e-1a2b3c4d5e6f"


class Run:
    """A run in virtual time, over lines 2, 3 ..."""

    def __init__(self, rate: Rate | None = None, *, check: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.egress = ScriptedEgress()
        self.stop = asyncio.Event()
        self.outcomes: list[Outcome] = []
        self.notices: list[str] = []
        self.at: list[float] = []
        self.run = Preauthorisation(
            Management(self.egress, PersonalAccessToken("t", self.loop.time), self.loop.time),
            rate=rate,
            check=check,
            stop=self.stop,
            told=self.outcomes.append,
            notice=self.notices.append,
        )
        self._began = self.loop.time()

    async def __call__(self, number: int, *steps: Answer | Exception) -> None:
        left = list(steps)

        async def step(_sent: Sent) -> Answer:
            self.at.append(self.loop.time() - self._began)
            given = left.pop(0) if left else answer(201)
            if isinstance(given, Exception):
                raise given
            return given

        self.egress.always = step
        keys = (DeviceKey(f'{{"mac":"{line}"}}', "00", "PEM") for line in range(2, number + 2))
        await self.run.run(Entry(line, key) for line, key in enumerate(keys, 2))

    @property
    def kinds(self) -> list[Kind]:
        return [outcome.kind for outcome in sorted(self.outcomes, key=lambda outcome: outcome.line)]


@in_virtual_time
async def test_it_asks_at_the_rate_and_never_with_force() -> None:
    run = Run(Rate(4, "s"))
    await run(20)
    assert run.at == pytest.approx([index / 4 for index in range(20)])
    assert run.kinds == [Kind.CREATED] * 20
    assert run.run.next_line is None
    assert all(set(json.loads(sent.body)) == {"identity_data", "pubkey"} for sent in run.egress.sent)


@in_virtual_time
async def test_known_and_refused_lines() -> None:
    run = Run(Rate(1, "s"))
    await run(3, answer(409, {"id": ID}), answer(400, {"error": "bad key"}))
    assert run.kinds == [Kind.KNOWN, Kind.FAILED, Kind.CREATED]
    assert "bad key" in run.outcomes[1].reason
    assert run.run.trouble is None


@in_virtual_time
async def test_it_waits_as_long_as_mender_says() -> None:
    run = Run(Rate(10, "s"))
    await run(5, answer(201), answer(429, Retry_After="90"))
    assert [at for at in run.at if 0.2 < at < 90] == []
    assert run.kinds == [Kind.CREATED] * 5
    assert run.notices == ["Mender's management API is too busy (429); trying again in 90 s"]


@in_virtual_time
async def test_trouble_that_passes() -> None:
    run = Run(Rate(1, "s"))
    await run(2, UpstreamUnavailable("down"), answer(503))
    assert run.kinds == [Kind.CREATED] * 2


@in_virtual_time
async def test_trouble_that_stays() -> None:
    run = Run()
    await run(20, answer(201), *[UpstreamUnavailable("down")] * 4 * AT_ONCE)
    assert run.run.trouble is not None
    assert run.run.next_line == 3
    assert len(run.at) <= 4 * AT_ONCE + 1


@in_virtual_time
@pytest.mark.parametrize("step", [answer(403), answer(401), UntrustedServer("not Mender")], ids=["403", "401", "TLS"])
async def test_trouble_that_waiting_does_not_mend(step: Answer | Exception) -> None:
    run = Run(Rate(1, "s"))
    await run(20, answer(201), *[step] * 8)
    assert (run.run.next_line, run.kinds) == (3, [Kind.CREATED])
    assert run.run.trouble is not None
    assert len(run.at) <= 3


@in_virtual_time
async def test_stopped_it_says_where_to_go_on() -> None:
    run = Run(Rate(1, "s"))
    run.loop.call_later(4.5, run.stop.set)
    await run(20)
    assert run.kinds == [Kind.CREATED] * 5
    assert (run.run.next_line, run.run.trouble) == (7, None)


@in_virtual_time
@pytest.mark.parametrize(
    ("device", "kind", "reason"),
    [
        (answer(404), Kind.FAILED, "has it no more"),
        (answer(200, {"id": ID, "auth_sets": []}), Kind.FAILED, "another key"),
        (answer(200, {"id": ID, "decommissioning": True}), Kind.FAILED, "decommissioning"),
    ],
)
async def test_check_asks_what_mender_has(device: Answer, kind: Kind, reason: str) -> None:
    run = Run(Rate(1, "s"), check=True)
    await run(1, answer(409, {"id": ID}), device)
    (outcome,) = run.outcomes
    assert outcome.kind is kind
    assert reason in outcome.reason
    assert [sent.method for sent in run.egress.sent] == ["POST", "GET"]
    assert run.at == [0, 1]

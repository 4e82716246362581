"""What the edge does for operators, with a real ledger and without Envoy."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtls_ambassador.admission.contests import Contests
from mtls_ambassador.admission.journal import Journal
from mtls_ambassador.admission.memory import AdmittedLately, admission_key
from mtls_ambassador.devices.control import Control, create_control_app
from mtls_ambassador.devices.control_socket import control_socket, serve_operators
from mtls_ambassador.devices.operators import operator
from mtls_ambassador.devices.sources import RunningEdge
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.ledger import Ledger
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Event
from tests.unit.devices.examples import MAC_A, MAC_B, NOW, STORY, A
from tests.unit.ledger.examples import database


@dataclass
class Edge:
    """What there is of it."""

    path: Path
    asked: RunningEdge
    ledger: Ledger
    lately: AdmittedLately
    audit: list[Event]


@pytest.fixture
async def edge(directory: Path) -> AsyncIterator[Edge]:
    lately, audit = AdmittedLately(10, 60, time.monotonic), list[Event]()
    async with Ledger(database(directory), 1e9) as ledger:
        journal = Journal([ledger.record, audit.append], lambda: dt.datetime.now(dt.UTC))
        for event in STORY:
            ledger.record(event)
        await ledger.flush()
        app = create_control_app(Control(ledger, journal, lately, Contests(time.monotonic), "warn"))
        async with serve_operators(app, directory):
            yield Edge(control_socket(directory), RunningEdge(control_socket(directory)), ledger, lately, audit)


async def test_questions(edge: Edge) -> None:
    def ask() -> None:
        assert [one["identity"] for one in edge.asked.devices(DeviceFilter())] == [MAC_A, MAC_B]
        assert [one["identity"] for one in edge.asked.devices(DeviceFilter(refused_since=NOW))] == [MAC_A]
        assert not list(edge.asked.devices(DeviceFilter(contested_since=NOW, warned_since=NOW, adopted=True)))
        assert next(edge.asked.show(A.serial))["identity"] == MAC_A
        assert next(edge.asked.explain("\udcff"))["kind"] == "nothing"
        assert next(edge.asked.report(NOW))["mode"] == "warn"
        with pytest.raises(Error, match="no identity and no certificate"):
            edge.asked.target("192.0.2.7")

    edge.lately.add(admission_key(MAC_A, A.key, A.fingerprint), "192.0.2.1")
    (told,) = await asyncio.to_thread(lambda: list(edge.asked.explain(MAC_A)))
    assert told["live"] == {"contested": False, "remembered": True, "ledger": "ok"}
    await asyncio.to_thread(ask)


async def test_changes_pass_the_journal(edge: Edge) -> None:
    said = [Adoption(MAC_A, AdoptionKind.SUBJECT, "CN=a"), Adoption('{"n":1}', AdoptionKind.KEY, "ab" * 32)]
    assert (await asyncio.to_thread(edge.asked.adopt, said))["noted"] == 2
    assert (await asyncio.to_thread(edge.asked.adopt, said))["unchanged"] == 2
    key = admission_key(MAC_A, A.key, A.fingerprint)
    edge.lately.add(key, "192.0.2.1")
    target = await asyncio.to_thread(edge.asked.target, A.serial)
    await asyncio.to_thread(edge.asked.forget, target)
    assert key not in edge.lately  # or it could keep this identity beside its next one
    assert [event.kind for event in edge.audit] == ["adoption_noted", "adoption_noted", "forgotten"]


async def test_changes_say_who_made_them(edge: Edge) -> None:
    by_sudo = RunningEdge(edge.path, "4711")
    target = await asyncio.to_thread(by_sudo.target, A.serial)
    await asyncio.to_thread(by_sudo.forget, target)
    said = [Adoption(MAC_A, AdoptionKind.SUBJECT, "CN=a")]
    await asyncio.to_thread(edge.asked.adopt, said)
    me = str(operator(os.getuid()))
    assert [event.detail for event in edge.audit] == [
        f"by {me}, by sudo from uid 4711 as SUDO_UID says",
        f"subject CN=a, by {me}",
    ]


async def test_what_is_no_change(edge: Edge) -> None:
    wrong = Adoption("no identity", AdoptionKind.KEY, "ab" * 32)
    for said in ([wrong], [wrong] * 1001):
        with pytest.raises(Error):
            await asyncio.to_thread(edge.asked.adopt, said)
    with pytest.raises(Error, match="no longer in the ledger"):
        await asyncio.to_thread(edge.asked.forget, {"identity": "x"})
    assert edge.audit == []


async def test_a_ledger_that_is_down_is_told(edge: Edge, directory: Path) -> None:
    for file in directory.glob("ledger.sqlite3*"):
        file.unlink()
    with pytest.raises(Error, match="there is no ledger"):
        await asyncio.to_thread(lambda: list(edge.asked.devices(DeviceFilter())))

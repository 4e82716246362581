"""The ledger on a real PostgreSQL: the same as on SQLite, shared by two nodes, and through restarts of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from structlog.testing import capture_logs

from mtls_ambassador.ledger.database import Database, open_database, reading
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.ledger import Condition, Ledger
from mtls_ambassador.ledger.queries import (
    DeviceFilter,
    every_device,
    links_of_identity,
    list_devices,
    list_history,
    totals,
    warned,
)
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Event, EventKind, Facts, Holder
from mtls_ambassador.ledger.schema import metadata
from mtls_ambassador.ledger.search import search
from tests.postgresql import PostgreSql, postgresql
from tests.unit.ledger.examples import MAC_A, MAC_B, NOW, SECOND, A, B, certificate, claim, event
from tests.world import eventually

pytestmark = pytest.mark.needs("postgres", "setpriv")

DAY = 86400.0
PATIENCE = 60.0


@pytest.fixture
def server() -> Iterator[PostgreSql]:
    with postgresql() as running:
        yield running


def database(server: PostgreSql) -> Database:
    return Database.at(server.url, Path("/nowhere"))


def node(server: PostgreSql) -> Ledger:
    return Ledger(database(server), 90 * DAY, now=lambda: NOW)


async def facts(ledger: Ledger, *about: object) -> Facts:
    """The facts, however slow this machine is."""
    await ledger.flush(PATIENCE)
    return await ledger.facts(claim(*about))  # type: ignore[arg-type]


async def test_it_is_the_same_ledger_as_on_sqlite(server: PostgreSql) -> None:
    word = Adoption(MAC_A, AdoptionKind.KEY, A.key)
    async with node(server) as ledger:
        ledger.record(event(EventKind.WARNED, rule="cn-is-mac"))
        ledger.record(event(EventKind.ROTATED))
        ledger.record(event(mender_id="m1"))
        ledger.record(event(EventKind.REFUSED, MAC_B, A, reason="identity_mismatch"))
        ledger.record(
            event(EventKind.REFUSED, MAC_B, certificate("same", subject=A.subject), reason="identity_mismatch")
        )
        ledger.record(event(EventKind.CONTESTED))
        ledger.record(Event(NOW, EventKind.ADOPTION_NOTED, adoption=word))
        expected = Facts(known=True, holder=Holder(A, "m1", NOW), subject_is_shared=True, adoption=word)
        assert await facts(ledger) == expected
        assert (await facts(ledger, MAC_B)).other_identities == (MAC_A,)
        (device,) = await ledger.query(list_devices)
        assert (device.identity, device.holder, device.contested, device.adoption) == (MAC_A, A, NOW, word)
        everywhere = DeviceFilter(refused_since=None, contested_since=NOW, warned_since=NOW)
        assert await ledger.query(lambda connection: list_devices(connection, everywhere)) == (device,)
        for text in ("aa", "mac=AA", "m1", "device-a", "CN=device-a", A.fingerprint, A.serial, "192.0.2.7"):
            found = await ledger.query(lambda connection, text=text: search(connection, text))  # type: ignore[misc]
            assert found.devices == (device,), text
        (of_rule,) = await ledger.query(lambda connection: warned(connection, NOW))
        assert (of_rule.rule, of_rule.identity, of_rule.times) == ("cn-is-mac", MAC_A, 1)
        (link,) = await ledger.query(lambda connection: links_of_identity(connection, MAC_A))
        assert link.how == "rotated"
        history = await ledger.query(list_history)
        assert [entry.kind for entry in history][:2] == [EventKind.ADOPTION_NOTED, EventKind.CONTESTED]
        ledger.record(event(EventKind.FORGOTTEN, of=None))
        await ledger.flush(PATIENCE)
        assert (await ledger.query(totals)).devices == 0


async def test_its_tables_are_those_of_the_schema(server: PostgreSql) -> None:
    opened = open_database(database(server))
    with reading(opened):
        assert compare_metadata(MigrationContext.configure(opened), metadata) == []
    opened.close()
    open_database(database(server)).close()


async def test_two_nodes_see_each_other(server: PostgreSql) -> None:
    async with node(server) as one, node(server) as other:
        one.record(event())
        await one.flush(PATIENCE)
        assert (await facts(other)).known
        other.record(event(of=B, at=NOW + SECOND))
        await other.flush(PATIENCE)
        assert await facts(one, MAC_A, B) == Facts(known=True, holder=Holder(B, None, NOW + SECOND))
        assert not (await facts(one)).known


async def test_two_nodes_begin_and_write_at_the_same_time(server: PostgreSql) -> None:
    async with node(server) as one, node(server) as other:
        for number in range(80):
            one.record(event(identity=f'{{"n":{number % 40}}}', of=certificate(str(number % 40))))
            other.record(event(identity=f'{{"n":{39 - number % 40}}}', of=certificate(str(39 - number % 40))))
        await asyncio.gather(one.flush(PATIENCE), other.flush(PATIENCE))
        devices = await one.query(lambda connection: list(every_device(connection)))
        assert sorted(device.identity for device in devices) == sorted(f'{{"n":{number}}}' for number in range(40))
        assert (await one.query(totals)).certificates == 40
        assert one.counters.failed == other.counters.failed == 0
        assert len(await one.query(lambda connection: list_history(connection, limit=1000))) == 160


async def test_two_nodes_that_admit_one_key_twice_are_found_out(server: PostgreSql) -> None:
    async with node(server) as one, node(server) as other:
        one.record(event())
        await one.flush(PATIENCE)
        with capture_logs() as logged:
            other.record(event(identity=MAC_B))
            await other.flush(PATIENCE)
        assert any("second identity" in line["event"] for line in logged)
        assert EventKind.KEY_SHARED in {entry.kind for entry in await one.query(list_history)}


@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_a_restart_under_load_loses_nothing(server: PostgreSql, how: str) -> None:
    async with node(server) as ledger:
        stopped = asyncio.Event()
        recorded = 0

        async def load() -> None:
            nonlocal recorded
            while not stopped.is_set() and recorded < 500:
                ledger.record(event(identity=f'{{"n":{recorded}}}', of=certificate(str(recorded))))
                recorded += 1
                await asyncio.sleep(0.01)

        loading = asyncio.create_task(load())
        await eventually(lambda: ledger.counters.written > 20, PATIENCE)
        await asyncio.to_thread(server.stop, how)
        await eventually(lambda: ledger.status.condition is Condition.DOWN, PATIENCE)
        with pytest.raises(LedgerUnavailable):
            await ledger.facts(claim())
        await asyncio.to_thread(server.start)
        await eventually(lambda: ledger.status.condition is not Condition.DOWN, PATIENCE)
        stopped.set()
        await loading
        await ledger.flush(PATIENCE)
        assert (await ledger.query(totals)).devices == recorded
        assert (ledger.counters.dropped, ledger.counters.failed) == (0, 0)
        assert (await facts(ledger, '{"n":0}', certificate("0"))).known


async def test_a_server_that_is_down_at_the_start_is_waited_for(server: PostgreSql) -> None:
    server.stop()
    async with node(server) as ledger:
        assert ledger.status.condition is Condition.DOWN
        ledger.record(event())
        await asyncio.to_thread(server.start)
        await eventually(lambda: ledger.status.condition is Condition.OK, PATIENCE)
        assert (await facts(ledger)).known

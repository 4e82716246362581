"""Whatever happens to the ledger, devices that Mender accepts notice nothing, and nothing they did is lost from it.

Any other is told 503 and to come again: only the ledger could say whose the identity is. It gets in when the ledger is
back, without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mtls_ambassador.ledger.database import FILE
from mtls_ambassador.ledger.ledger import Condition, Ledger
from mtls_ambassador.ledger.queries import DeviceFilter, every_device
from mtls_ambassador.ledger.records import EventKind
from tests.operated_lab import OperatedLab
from tests.peers import unavailable
from tests.postgresql import postgresql
from tests.raw_device import RawDevice, another_edge
from tests.world import World, eventually, world

pytestmark = pytest.mark.timeout(300)
on_postgresql = pytest.mark.needs("postgres", "setpriv")

PATIENCE = 90.0
TROUBLE = ("slow", "full", "down")


@dataclass(frozen=True)
class Trouble:
    """What can happen to a ledger, and how it ends."""

    settings: dict[str, Any]
    """Of an edge with that ledger."""
    begin: Callable[[], object]
    end: Callable[[], object]


@dataclass
class Fleet:
    """Devices that Mender accepts."""

    w: World
    mender: OperatedLab
    old: list[RawDevice] = field(default_factory=list)
    """The edge admitted them when all was well, and remembers them."""
    new: list[RawDevice] = field(default_factory=list)
    """It has met them since."""

    @property
    def fingerprints(self) -> set[str]:
        """Of all certificates that were admitted."""
        return {device.holder.fingerprint for device in (*self.old, *self.new)}

    async def admit(self, device: RawDevice) -> None:
        """It gets a token, and the token is good."""
        token = (await device.authenticate(at=self.w)).token
        assert await device.call(token) == 200

    async def join(self, device: RawDevice) -> None:
        """One that the edge has not met."""
        await self.admit(device)
        self.new.append(device)

    async def go_on(self) -> None:
        """The old ones authenticate, and do something with their tokens; so do four others that Mender accepts."""
        for device in self.old:
            await self.admit(device)
        newcomers = [RawDevice(self.w) for _ in range(4)]
        for device in newcomers:
            self.mender.knock(device.identity, device.holder)
            self.mender.decide(device.identity, device.holder, "accepted")
        await asyncio.gather(*map(self.join, newcomers))

    async def go_on_until(self, condition: Callable[[], object]) -> None:
        """All the time, until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.state
            await self.go_on()

    @property
    def state(self) -> str:
        """What the edge says of its ledger, to operators and to probes."""
        told: Mapping[str, Any] = self.w.edge.report()["ledger"]
        assert told == self.w.edge.health().detail["ledger"]
        return str(told["state"])


@contextlib.contextmanager
def stopped(how: str) -> Iterator[Trouble]:
    with postgresql() as server:
        yield Trouble({"ledger_url": server.url}, lambda: server.stop(how), server.start)


@contextlib.contextmanager
def two_seconds_a_write() -> Iterator[Trouble]:
    slowness = """
        CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NEW; END';
        CREATE TRIGGER slowly BEFORE INSERT ON history FOR EACH ROW EXECUTE FUNCTION slowly();
    """
    with postgresql() as server:

        def run(statements: str) -> None:
            with psycopg.connect(server.url) as connection:
                connection.execute(statements)

        yield Trouble({"ledger_url": server.url}, lambda: run(slowness), lambda: run("DROP FUNCTION slowly CASCADE"))


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[Trouble]:
    """Another program keeps the file locked, such as a backup that hangs."""
    with contextlib.ExitStack() as stack:

        def begin() -> None:
            held = sqlite3.connect(directory / FILE, isolation_level=None, check_same_thread=False)
            stack.enter_context(contextlib.closing(held)).execute("BEGIN IMMEDIATE")

        yield Trouble({"state_dir": str(directory)}, begin, stack.close)


@contextlib.contextmanager
def full(directory: Path) -> Iterator[Trouble]:
    """A file system of its own, on which something else takes all that is left."""
    directory.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    if subprocess.run(mounted, check=False).returncode != 0:
        unavailable("no file system may be mounted here: run this test where root may do so")
    filler = directory / "filler"

    def begin() -> None:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    try:
        yield Trouble({"state_dir": str(directory)}, begin, filler.unlink)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


TROUBLES: list[Any] = [
    pytest.param(lambda _: stopped("fast"), marks=on_postgresql, id="PostgreSQL is stopped"),
    pytest.param(lambda _: stopped("immediate"), marks=on_postgresql, id="PostgreSQL crashes"),
    pytest.param(lambda _: two_seconds_a_write(), marks=on_postgresql, id="PostgreSQL takes two seconds a write"),
    pytest.param(locked, id="the file is locked"),
    pytest.param(full, id="the disk is full", marks=pytest.mark.needs("root")),
]


@contextlib.asynccontextmanager
async def fleet(directory: Path, settings: dict[str, Any]) -> AsyncIterator[Fleet]:
    mender = OperatedLab()
    async with world(directory, lab=mender, **settings) as w:
        scene = Fleet(w, mender)
        for _ in range(3):
            device = RawDevice(w)
            await scene.admit(device)
            scene.old.append(device)
        await ledger_of(w).flush()
        yield scene


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_devices_go_on(
    tmp_path: Path, trouble: Callable[[Path], contextlib.AbstractContextManager[Trouble]]
) -> None:
    with trouble(tmp_path / "ledger") as of:
        async with fleet(tmp_path / "world", of.settings) as devices:
            w = devices.w
            await asyncio.to_thread(of.begin)
            await devices.go_on_until(lambda: devices.state in TROUBLE)
            for _ in range(3):
                await devices.go_on()  # so that something waits to be written, whatever the ledger does just now
            unknown = RawDevice(w)
            reply = await unknown.authenticate()
            assert reply.refusal == (503, "ledger_unavailable")
            assert int(reply.header("retry-after") or 0) >= 1
            assert "remedy=" in reply.log
            assert devices.mender.status_of(unknown.identity, unknown.holder) == "pending"
            await devices.go_on()
            assert devices.state in TROUBLE
            assert w.edge.report()["ledger"]["waiting"] > 0
            assert w.edge.health().ready

            await asyncio.to_thread(of.end)
            await devices.go_on_until(lambda: devices.state == "ok")
            await devices.join(unknown)
            await everything_is_in_the_ledger(devices)


async def everything_is_in_the_ledger(devices: Fleet) -> None:
    ledger = ledger_of(devices.w)
    await ledger.flush()
    assert (ledger.counters.dropped, ledger.counters.failed) == (0, 0)
    assert await held(ledger) == devices.fingerprints
    assert await devices.w.history(EventKind.ADMITTED) == ["admitted"] * len(devices.fingerprints)
    assert set(await devices.w.history(EventKind.REFUSED)) == {"ledger_unavailable"}
    assert devices.w.edge.outcomes.counts["internal_error"] == 0


@on_postgresql
async def test_a_device_with_a_separate_auth_key_needs_the_ledger_where_no_edge_remembers_it(
    tmp_path: Path,
) -> None:
    """Mender knows the key, and cannot say whose certificate it came with: another's would do as well."""
    with postgresql() as server:
        settings: dict[str, Any] = {"ledger_url": server.url, "require_same_key": False}
        async with fleet(tmp_path / "world", settings) as devices:
            w = devices.w
            device = RawDevice(w, auth_key=w.ca.device("another").key)
            await devices.join(device)
            await ledger_of(w).flush()
            thief = RawDevice(w, device.identity, auth_key=device.auth_key)
            server.stop()
            await devices.go_on()
            assert (await thief.authenticate()).refusal == (503, "ledger_unavailable")
            async with another_edge(w, **settings) as edge:
                assert (await device.authenticate(at=edge)).refusal == (503, "ledger_unavailable")
                await asyncio.to_thread(server.start)
                await eventually(lambda: ledger_of(edge).status.condition is Condition.OK, PATIENCE)
                assert (await device.authenticate(at=edge)).status == 200
                assert (await thief.authenticate(at=edge)).refusal[0] == 401


@on_postgresql
async def test_an_edge_begins_while_its_ledger_is_down(tmp_path: Path) -> None:
    """It remembers nobody, and can ask nobody but Mender."""
    with postgresql() as server:
        async with fleet(tmp_path / "world", {"ledger_url": server.url}) as devices:
            server.stop()
            async with another_edge(devices.w, ledger_url=server.url) as edge:
                devices.w = edge
                await devices.go_on()
                assert devices.state == "down"
                unknown = RawDevice(edge)
                assert (await unknown.authenticate(at=edge)).refusal == (503, "ledger_unavailable")
                await asyncio.to_thread(server.start)
                await devices.go_on_until(lambda: devices.state == "ok")
                await devices.join(unknown)
                await ledger_of(edge).flush()


async def test_the_file_breaks_while_it_is_used(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with fleet(tmp_path / "world", {"state_dir": str(state)}) as devices:
        # A change of another's makes the edge read pages again that it would know by heart.
        with contextlib.closing(sqlite3.connect(state / FILE)) as other:
            other.execute("UPDATE alembic_version SET version_num = version_num")
            other.commit()
            for file in (state / FILE, state / f"{FILE}-wal"):
                spoil(file)
            await devices.go_on_until(lambda: devices.w.log_lines("is broken and was set aside"))
        await devices.go_on_until(lambda: devices.state == "ok")
        await devices.go_on()
        await it_is_begun_anew(devices, state, {devices.new[-1].holder.fingerprint})


async def test_the_file_is_broken_at_the_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with fleet(tmp_path / "world", {}) as devices:
        async with another_edge(devices.w, state_dir=str(state)) as devices.w:
            await devices.go_on()
        spoil(state / FILE)
        async with another_edge(devices.w, state_dir=str(state)) as devices.w:
            await devices.go_on()
            await it_is_begun_anew(devices, state, {device.holder.fingerprint for device in devices.old})


async def it_is_begun_anew(devices: Fleet, state: Path, since: set[str]) -> None:
    """The broken file is kept, and the new ledger knows whom it was asked about since."""
    w = devices.w
    assert list(state.glob(f"{FILE}.corrupt-*"))
    (line,) = w.log_lines("is broken and was set aside")
    assert "remedy=" in line
    stranger = RawDevice(w)
    await devices.join(stranger)
    since = {*since, stranger.holder.fingerprint}
    ledger = ledger_of(w)
    await ledger.flush()
    assert await held(ledger) >= since
    assert (ledger.counters.dropped, ledger.counters.failed) == (0, 0)


async def held(ledger: Ledger) -> set[str]:
    """The certificates by which identities are held."""
    kept = await ledger.query(lambda connection: list(every_device(connection, DeviceFilter())))
    return {device.holder.fingerprint for device in kept if device.holder}


def spoil(file: Path) -> None:
    """Overwrite it in place, as a broken disk does."""
    with file.open("r+b") as opened:
        opened.write(b"\x5a" * file.stat().st_size)


def ledger_of(w: World) -> Ledger:
    assert w.edge.ledger is not None
    return w.edge.ledger

"""The server as an object: faults, persistence, workflows, TLS, and what it never tells."""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
import time
from pathlib import Path

import aiohttp
import pytest

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.server import Fault, LabCall, LabServer, LabSettings, Refusal, parse_fault
from mtls_ambassador.serving import tcp_listener
from tests.certificates import CertificateAuthority
from tests.unit.lab.server.conftest import Start
from tests.unit.lab.server.peer import DEVAUTH, PASSWORD, USER, Peer

SETTINGS = LabSettings(user=USER, password=PASSWORD)


class TestFaults:
    async def test_are_set_at_run_time(self, peer: Peer) -> None:
        fault = parse_fault(f"status=429,retry_after=5,path={DEVAUTH},method=GET,count=1")
        peer.lab.faults = (fault,)
        found = await peer.call("GET", f"{DEVAUTH}/devices")
        assert (found.status, found.error, found.headers["retry-after"]) == (429, "too many requests", "5")
        assert peer.lab.faults[0].count == 0
        assert (await peer.call("GET", f"{DEVAUTH}/devices")).status == 200

    async def test_are_set_at_the_start(self, start: Start) -> None:
        async with start(faults=(Fault(status=503, path="/api/devices"),)) as peer:
            found = await peer.authenticate({"serial": "1"})
            assert (found.status, found.error) == (503, "service unavailable")
            assert "retry-after" not in found.headers
            assert peer.lab.devices() == []
            peer.lab.faults = ()
            assert (await peer.authenticate({"serial": "1"})).status == 401

    async def test_delay(self, peer: Peer) -> None:
        peer.lab.faults = (Fault(latency=0.05, path=DEVAUTH),)
        before = time.monotonic()
        assert (await peer.call("GET", f"{DEVAUTH}/devices")).status == 200
        assert time.monotonic() - before >= 0.05


class TestDatabase:
    async def test_keeps_everything_in_its_file(self, tmp_path: Path, start: Start) -> None:
        db = tmp_path / "lab.db"
        async with start(db=db) as peer:
            device_token, user_token = await peer.accepted({"serial": "1"}), peer.token
            before = peer.lab.devices()
        assert db.stat().st_mode & 0o777 == 0o600
        async with start(db=db) as peer:
            assert peer.lab.devices() == before
            assert await peer.alive(device_token)
            assert (await peer.call("GET", f"{DEVAUTH}/devices", token=user_token)).status == 200

    async def test_in_memory_is_each_servers_own(self, start: Start) -> None:
        async with start() as one, start() as other:
            token = await one.accepted({"serial": "1"})
            assert other.lab.devices() == []
            assert not await other.alive(token)

    async def test_that_is_none_is_refused(self, tmp_path: Path) -> None:
        db = tmp_path / "lab.db"
        db.write_bytes(b"not a database, but long enough to be taken for one" * 100)
        with pytest.raises(Error, match="cannot use the database"):
            await LabServer(LabSettings(password=PASSWORD, db=db)).__aenter__()
        with pytest.raises(Error, match="cannot open the database"):
            await LabServer(LabSettings(password=PASSWORD, db=tmp_path / "none" / "lab.db")).__aenter__()

    async def test_without_a_temporary_directory_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        with pytest.raises(Error, match="cannot keep artifacts in a temporary directory"):
            await LabServer(LabSettings(password=PASSWORD)).__aenter__()


class TestDecommissioning:
    async def test_takes_its_time(self, start: Start) -> None:
        async with start(decommission_delay=0.02) as peer:
            await peer.accepted({"serial": "1"})
            (device,) = peer.lab.devices()
            assert (await peer.call("DELETE", f"{DEVAUTH}/devices/{device.id}")).status == 204
            while peer.lab.devices():  # noqa: ASYNC110  nothing tells of the end
                await asyncio.sleep(0.005)

    async def test_goes_on_after_a_restart(self, tmp_path: Path, start: Start) -> None:
        db = tmp_path / "lab.db"
        async with start(db=db, decommission_delay=3600.0) as peer:
            await peer.authenticate({"serial": "1"})
            peer.lab.decommission(peer.lab.devices()[0].id)
            assert [device.decommissioning for device in peer.lab.devices()] == [True]
        async with start(db=db) as peer:
            assert peer.lab.devices() == []

    async def test_of_nothing_is_refused(self, peer: Peer) -> None:
        with pytest.raises(Refusal) as caught:
            peer.lab.decommission("x")
        assert caught.value.status == 404


async def test_serves_tls(tmp_path: Path) -> None:
    ca = CertificateAuthority("Lab CA")
    ca_file, _ = ca.write(tmp_path, "ca")
    certificate = ca.server("localhost").write(tmp_path, "server")
    trust = ssl.create_default_context(cafile=str(ca_file))
    async with LabServer(SETTINGS, tls=certificate) as lab, aiohttp.ClientSession() as http:
        assert lab.url == f"https://127.0.0.1:{lab.port}"
        async with http.get(f"https://localhost:{lab.port}/", ssl=trust) as found:
            assert found.status == 401


async def test_listens_on_ipv6() -> None:
    async with LabServer(SETTINGS, host="::1") as lab, aiohttp.ClientSession() as http, http.get(lab.url) as found:
        assert lab.url.startswith("http://[::1]:")
        assert found.status == 401


async def test_a_port_in_use_is_refused_and_nothing_stays_open() -> None:
    with tcp_listener("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(Error, match="cannot listen on"):
            await LabServer(SETTINGS, port=taken.getsockname()[1]).__aenter__()


def test_needs_a_password() -> None:
    with pytest.raises(Error, match="no password"):
        LabServer(LabSettings())


async def test_answered_calls_are_recorded(peer: Peer) -> None:
    before = len(peer.lab.calls())
    await peer.call("GET", f"{DEVAUTH}/devices?status=pending")
    await peer.call("POST", "/none", {})
    assert peer.lab.calls()[before:] == (
        LabCall("GET", f"{DEVAUTH}/devices?status=pending", 200),
        LabCall("POST", "/none", 404),
    )


async def test_secrets_are_not_shown(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = await peer.accepted({"serial": "1"})
    peer.lab.change_password("new secret")
    await peer.call("GET", f"{DEVAUTH}/devices")
    shown = caplog.text + repr(SETTINGS) + repr(vars(peer.lab)) + repr(peer.lab.calls())
    for secret in (PASSWORD, "new secret", peer.token, token):
        assert secret not in shown


async def test_a_mistake_in_the_server_is_an_internal_error(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("mtls_ambassador.lab.server.devauth_store.DevauthStore.count", broken)
    found = await peer.call("GET", f"{DEVAUTH}/devices/count")
    assert (found.status, found.error) == (500, "internal error")

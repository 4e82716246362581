"""A whole fleet authenticates at the same moment: everybody gets in, whether edge and ledger remember it or not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mtls_ambassador.ambassador import Ambassador
from mtls_ambassador.lab.fleet import Fleet, Habits, run_for
from mtls_ambassador.lab.population import Population
from mtls_ambassador.lab.server import LabServer, LabSettings
from mtls_ambassador.lab.statistics import Statistics
from mtls_ambassador.mender import management, session
from mtls_ambassador.pki import authority
from tests.ports import lasting_port
from tests.world import PASSWORD, USER, edge_settings, eventually

DEVICES = 100
RARELY = Habits(update_interval=3600, inventory_interval=3600)
PATIENCE = 60.0
"""Seconds. Devices, edge and Mender share a process here: on a busy machine that is slow, and not what is tested."""


@pytest.mark.timeout(400)
async def test_everybody_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as strangers, once after a restart of the edge, and once after the loss of its ledger.

    Strangers cost one management call each, also those that Mender accepts already; whom the ledger knows costs none.
    """
    monkeypatch.setattr(management, "_TIMEOUT", PATIENCE)
    monkeypatch.setattr(session, "_TIMEOUT", PATIENCE)
    ca = authority.init(tmp_path, "Fleet CA")
    server = authority.issue_server(tmp_path, "localhost")
    files = {
        "server_cert": str(server.certificate_path),
        "server_key": str(server.key_path),
        "tenant_ca_pem": str(ca.certificate_path),
    }
    statistics = Statistics()
    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as lab:
        settings = edge_settings(tmp_path, lab.url, files, listen=f"127.0.0.1:{lasting_port()}", shutdown_grace="0s")
        async with Ambassador(settings, {}) as edge:
            fleet = fleet_at(edge.port, tmp_path, statistics)
            running = asyncio.ensure_future(run_for(fleet, 4 * PATIENCE))
            await eventually(lambda: fleet.authenticated == DEVICES, PATIENCE)
            assert edge.outcomes.counts == {"admitted": DEVICES}
            assert DEVICES <= edge.report()["management_calls"] <= DEVICES + 10
        async with Ambassador(settings, {}) as edge:
            fleet.authenticate_all()
            await eventually(lambda: len(fleet.all_back_after) == 1, PATIENCE)
            assert edge.outcomes.counts == {"admitted": DEVICES}
            assert edge.report()["management_calls"] <= 10
        async with Ambassador(settings.model_copy(update={"state_dir": tmp_path / "another"}), {}) as edge:
            fleet.authenticate_all()
            await eventually(lambda: len(fleet.all_back_after) == 2, PATIENCE)
            assert edge.outcomes.counts == {"admitted": DEVICES}
            assert DEVICES <= edge.report()["management_calls"] <= DEVICES + 10
            fleet.stop()
            await running
    answers = statistics.summary(1.0).kinds["authentication"].statuses
    assert answers == {"200": 3 * DEVICES}


def fleet_at(port: int, directory: Path, statistics: Statistics) -> Fleet:
    population = Population(
        f"https://localhost:{port}", directory / "ca-cert.pem", "127.0.0.1", observe=statistics.call
    )
    return Fleet(population.issued_by(directory), DEVICES, RARELY, statistics)

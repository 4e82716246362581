"""The ledger asked and told without an edge; what an edge answers is in tests/integration."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from mtls_ambassador.config.values import AuditTarget
from mtls_ambassador.devices.sources import LedgerItself, find_source
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.database import FILE, Database
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Adoption, AdoptionKind
from tests.unit.devices.examples import ALICE
from tests.unit.ledger.examples import database

SAID = [Adoption(f'{{"n":{number}}}', AdoptionKind.SUBJECT, f"CN={number}") for number in range(5)]


def test_it_is_told_and_asked(directory: Path) -> None:
    with LedgerItself(database(directory), ALICE) as ledger:
        assert ledger.adopt(SAID[:3]) == {"kind": "adopted", "noted": 3, "unchanged": 0}
        assert ledger.adopt(SAID) == {"kind": "adopted", "noted": 2, "unchanged": 3}
        assert [one["identity"] for one in ledger.devices(DeviceFilter())] == [one.identity for one in SAID]
        ledger.forget(ledger.target("n=3"))
        assert len(list(ledger.devices(DeviceFilter()))) == 4
        (told,) = ledger.explain('{"n":1}')
        assert told["explanation"]["state"] == "expected"
        assert [entry["event"] for entry in next(ledger.show('{"n":1}'))["history"]] == ["adoption_noted"]
        assert next(ledger.report(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))["kind"] == "report"


def test_a_ledger_is_made_for_adoptions_only(tmp_path: Path) -> None:
    with LedgerItself(database(tmp_path), ALICE) as ledger:
        with pytest.raises(LedgerUnavailable, match="there is no ledger"):
            list(ledger.devices(DeviceFilter()))
        assert not (tmp_path / FILE).exists()
        ledger.adopt(SAID)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_not_where_its_edge_could_not_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with LedgerItself(database(tmp_path), ALICE) as ledger, pytest.raises(Error, match="belongs to another user"):
        ledger.adopt(SAID)
    assert not (tmp_path / FILE).exists()


def test_a_broken_ledger_is_neither_read_nor_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with LedgerItself(database(tmp_path), ALICE) as ledger:
        for ask in (lambda: list(ledger.devices(DeviceFilter())), lambda: ledger.adopt(SAID)):
            with pytest.raises(LedgerUnavailable, match="not a database"):
                ask()
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_without_an_edge_the_ledger_is_asked(tmp_path: Path) -> None:
    assert isinstance(find_source(tmp_path, Database.at(None, tmp_path), {}, itself=False), LedgerItself)


def test_changes_are_in_the_edges_audit_log_with_who_made_them(directory: Path) -> None:
    audit = directory / "audit.jsonl"
    audit.write_text("what the edge wrote\n")
    with LedgerItself(database(directory), ALICE, AuditTarget(audit)) as ledger:
        ledger.adopt(SAID)
        ledger.adopt(SAID)
        ledger.forget(ledger.target("n=3"))
        assert ledger.unaudited is None
    before, *lines = audit.read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert before == "what the edge wrote"
    assert [line["event"] for line in told] == ["adoption_noted"] * 5 + ["forgotten"]
    assert all("by alice (uid 1000)" in line["detail"] for line in told)


@pytest.mark.parametrize(
    ("audit_log", "why"),
    [
        (None, "no audit_log is known here"),
        (AuditTarget(None), "standard output"),
        (AuditTarget(Path("/proc/none/audit.jsonl")), "No such file"),
    ],
)
def test_where_there_is_no_audit_log_to_write_it_says_why(
    directory: Path, audit_log: AuditTarget | None, why: str
) -> None:
    with LedgerItself(database(directory), ALICE, audit_log) as ledger:
        assert ledger.adopt(SAID)["noted"] == 5
        assert why in (ledger.unaudited or "")


def test_the_command_says_who_runs_it(tmp_path: Path) -> None:
    said = {"SUDO_UID": "4711"}
    source = find_source(tmp_path, database(tmp_path), said, itself=True, audit_log=AuditTarget(tmp_path / "audit"))
    assert isinstance(source, LedgerItself)
    with source:
        source.adopt(SAID[:1])
    detail = json.loads((tmp_path / "audit").read_text())["detail"]
    assert f"uid {os.getuid()}" in detail
    assert detail.endswith("by sudo from uid 4711 as SUDO_UID says")

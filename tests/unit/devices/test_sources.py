"""The ledger asked and told without an edge; what an edge answers is in tests/integration."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from mtls_ambassador.devices.sources import LedgerItself, find_source
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.database import FILE, Database
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Adoption, AdoptionKind
from tests.unit.ledger.examples import database

SAID = [Adoption(f'{{"n":{number}}}', AdoptionKind.SUBJECT, f"CN={number}") for number in range(5)]


def test_it_is_told_and_asked(directory: Path) -> None:
    with LedgerItself(database(directory)) as ledger:
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
    with LedgerItself(database(tmp_path)) as ledger:
        with pytest.raises(LedgerUnavailable, match="there is no ledger"):
            list(ledger.devices(DeviceFilter()))
        assert not (tmp_path / FILE).exists()
        ledger.adopt(SAID)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_not_where_its_edge_could_not_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with LedgerItself(database(tmp_path)) as ledger, pytest.raises(Error, match="belongs to another user"):
        ledger.adopt(SAID)
    assert not (tmp_path / FILE).exists()


def test_a_broken_ledger_is_neither_read_nor_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with LedgerItself(database(tmp_path)) as ledger:
        for ask in (lambda: list(ledger.devices(DeviceFilter())), lambda: ledger.adopt(SAID)):
            with pytest.raises(LedgerUnavailable, match="not a database"):
                ask()
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_without_an_edge_the_ledger_is_asked(tmp_path: Path) -> None:
    assert isinstance(find_source(tmp_path, Database.at(None, tmp_path), itself=False), LedgerItself)

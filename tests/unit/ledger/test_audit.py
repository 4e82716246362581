"""Audit lines say what happened, in whole lines, whatever becomes of the file; and never in the way of a device."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from mtls_ambassador.ledger import audit as module
from mtls_ambassador.ledger.audit import AuditLog, append, audit_line
from mtls_ambassador.ledger.records import Certificate, Event, EventKind

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
CERTIFICATE = Certificate("aa" * 32, "bb" * 32, "CN=dev-1", "CN=My CA", "01", "default", NOW, NOW)
EVENT = Event(
    NOW,
    EventKind.ROTATED,
    "r-1",
    "192.0.2.1:4711",
    '{"mac":"a"}',
    CERTIFICATE,
    "bb" * 32,
    mender_id="d-1",
    mender_status=200,
    rule="rotation: same-subject",
    detail="two\nlines",
)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_line_says_everything() -> None:
    line = audit_line(EVENT)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-06-01T12:00:00.000+00:00",
        "event": "rotated",
        "identity": '{"mac":"a"}',
        "certificate": {
            "serial": "01",
            "subject": "CN=dev-1",
            "issuer": "CN=My CA",
            "sha256": "aa" * 32,
            "anchor": "default",
        },
        "rule": "rotation: same-subject",
        "detail": "two\nlines",
        "mender_status": 200,
        "mender_id": "d-1",
        "address": "192.0.2.1:4711",
        "request_id": "r-1",
    }


def test_what_is_not_known_is_left_out() -> None:
    event = Event(NOW, EventKind.REFUSED, reason="malformed_request")
    assert json.loads(audit_line(event)).keys() == {"time", "event", "reason"}


def test_whose_a_copied_token_is_and_what_was_left_out_is_said() -> None:
    event = Event(NOW, EventKind.REFUSED, token_of="bb" * 32, left_out=3)
    line = json.loads(audit_line(event, 2))
    assert (line["token_of"], line["left_out"]) == ("bb" * 32, 5)


def test_a_file_is_private_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(2):
        with AuditLog(path) as log:
            log.keep(EVENT)
    assert lines(path) == [audit_line(EVENT)] * 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        log.keep(EVENT)
        while not path.exists() or not path.read_text():
            pass
        path.rename(tmp_path / "audit.jsonl.1")
        log.keep(EVENT)
    assert lines(path) == lines(tmp_path / "audit.jsonl.1") == [audit_line(EVENT)]


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with AuditLog(None) as log:
        log.keep(EVENT)
    assert capfd.readouterr().out == f"{audit_line(EVENT)}\n"


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "missing" / "audit.jsonl") as log:
        for _ in range(3):
            log.keep(EVENT)
    assert log.lost == 3


def test_whoever_waits_for_a_full_disk_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads stands for a disk that hangs."""
    monkeypatch.setattr(module, "_MOST_WAITING", 10)
    monkeypatch.setattr(module, "_LAST_LINES", 0.01)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with AuditLog(fifo) as log:
            for _ in range(1000):
                log.keep(EVENT)
            assert log.lost
    finally:
        os.close(reader)


def test_a_command_adds_to_what_an_edge_writes(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        log.keep(EVENT)
    append(path, [EVENT, EVENT])
    assert lines(path) == [audit_line(EVENT)] * 3
    append(tmp_path / "new", [EVENT])
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_a_command_makes_no_file_that_the_edge_could_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.jsonl"
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(FileNotFoundError):
        append(path, [EVENT])
    path.touch()
    append(path, [EVENT])
    assert lines(path) == [audit_line(EVENT)]

"""`pki.index`: what is on record, also after a power cut, with thousands of rows, and with two writers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mtls_ambassador.pki import entries
from mtls_ambassador.pki.entries import Entry, Kind, Reason, Revocation, Status
from mtls_ambassador.pki.index import INDEX, Index, IndexFileError, SerialTakenError
from tests.certificates import CertificateAuthority

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
ENTRY = entries.entry(CertificateAuthority("My CA").device("dev-1").certificate, Kind.DEVICE, "device-cert.pem")


def numbered(count: int, start: int = 1) -> list[Entry]:
    return [replace(ENTRY, serial=entries.serial_text(number)) for number in range(start, start + count)]


def serials(directory: Path, *, pending: bool | None = None) -> list[str]:
    with Index.open(directory, writable=False) as index:
        return [entry.serial for entry in index.entries(pending=pending)]


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    with Index.open(tmp_path) as index:
        index.begin([ENTRY])
        assert index.find(ENTRY.serial) == replace(ENTRY, status=Status.PENDING)
        index.finish([ENTRY.serial])
    with Index.open(tmp_path, writable=False) as index:
        assert index.find(ENTRY.serial) == ENTRY
        assert index.of_subject("CN=dev-1") == index.of_key(ENTRY.public_key) == [ENTRY]
        assert index.of_subject("CN=dev-2") == []
        assert index.find("00") is None


def test_only_pending_entries_are_discarded(tmp_path: Path) -> None:
    first, second = numbered(2)
    with Index.open(tmp_path) as index:
        index.begin([first, second])
        index.finish([first.serial])
        index.discard([first.serial, second.serial])
    assert serials(tmp_path) == [first.serial]


def test_entries_can_be_asked_for_by_kind_and_state(tmp_path: Path) -> None:
    first, second, third = numbered(3)
    with Index.open(tmp_path) as index:
        index.add([replace(first, kind=Kind.SERVER)])
        index.begin([second, third])
        index.finish([third.serial])
        assert [entry.serial for entry in index.entries(kind=Kind.SERVER)] == [first.serial]
        assert [entry.serial for entry in index.entries(kind=Kind.DEVICE, pending=False)] == [third.serial]
    assert serials(tmp_path, pending=True) == [second.serial]


def test_thousands_are_one_transaction_and_a_serial_that_is_taken_undoes_all(tmp_path: Path) -> None:
    with Index.open(tmp_path) as index:
        index.begin(numbered(5000))
        with pytest.raises(SerialTakenError, match=r"index\.sqlite3"):
            index.begin([*numbered(100, start=10_000), ENTRY, ENTRY])
    assert len(serials(tmp_path, pending=True)) == 5000


def test_the_first_revocation_counts(tmp_path: Path) -> None:
    with Index.open(tmp_path) as index:
        index.add([ENTRY])
        first = Revocation(ENTRY.serial, NOW, Reason.KEY_COMPROMISE)
        unknown = Revocation("0a", NOW + timedelta(hours=1))
        index.revoke([first])
        index.revoke([unknown, Revocation(ENTRY.serial, NOW + timedelta(days=1), Reason.SUPERSEDED)])
        assert list(index.revocations()) == [first, unknown]
        assert index.find(ENTRY.serial) == replace(ENTRY, status=Status.REVOKED, revocation=first)


def test_an_expired_certificate_is_a_matter_of_the_clock() -> None:
    after = ENTRY.not_after + timedelta(seconds=1)
    assert ENTRY.status_at(ENTRY.not_after) is Status.VALID
    assert ENTRY.status_at(after) is Status.EXPIRED
    assert replace(ENTRY, status=Status.REVOKED).status_at(after) is Status.REVOKED


def test_numbers_of_lists_only_grow(tmp_path: Path) -> None:
    with Index.open(tmp_path) as index:
        assert index.crl_number() == 0
        assert [index.next_crl_number(), index.next_crl_number(), index.next_crl_number(7)] == [1, 2, 7]
        assert index.next_crl_number(3) == 8
        assert index.crl_number() == 8


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with Index.open(tmp_path) as index:
            index.add([ENTRY])
    finally:
        os.umask(old)
    assert (tmp_path / INDEX).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]


def test_reading_changes_nothing_and_needs_an_index(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="is missing") as caught:
        Index.open(tmp_path, writable=False)
    assert "pki adopt" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    with Index.open(tmp_path) as index:
        index.add([ENTRY])
    before = (tmp_path / INDEX).read_bytes()
    with Index.open(tmp_path, writable=False) as index:
        assert list(index.entries()) == [ENTRY]
        with pytest.raises(IndexFileError, match="cannot use"):
            index.add(numbered(1))
    assert (tmp_path / INDEX).read_bytes() == before


def test_what_is_no_index_is_told(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_bytes(b"no database, though longer than a header of one" * 100)
    with pytest.raises(IndexFileError, match="is damaged"):
        Index.open(tmp_path)
    (tmp_path / INDEX).unlink()
    (tmp_path / INDEX).mkdir()
    with pytest.raises(IndexFileError, match="cannot open"):
        Index.open(tmp_path)
    with pytest.raises(IndexFileError, match="cannot open"):
        Index.open(tmp_path / "none")


def test_an_index_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / INDEX)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IndexFileError, match="later version"):
        Index.open(tmp_path)


def test_an_empty_file_of_a_program_that_was_killed_is_an_index_to_be(tmp_path: Path) -> None:
    (tmp_path / INDEX).touch()
    with pytest.raises(IndexFileError, match="is empty"):
        Index.open(tmp_path, writable=False)
    with Index.open(tmp_path) as index:
        assert list(index.entries()) == []


def test_a_second_writer_waits(tmp_path: Path) -> None:
    def write(start: int) -> None:
        with Index.open(tmp_path) as index:
            for number in range(start, start + 20):
                index.begin(numbered(1, start=number))

    threads = [threading.Thread(target=write, args=(start,)) for start in (1, 101, 201)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(serials(tmp_path)) == 60


_KILLED = """
import os, signal, sys
from pathlib import Path
from mtls_ambassador.pki.index import Index
from tests.unit.pki.test_index import numbered

def cut():
    yield from numbered(1000, start=1001)
    os.kill(os.getpid(), signal.SIGKILL)

with Index.open(Path(sys.argv[1])) as index:
    index.begin(numbered(1000))
    index.begin(cut())
"""


def test_a_program_that_is_killed_leaves_whole_transactions(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    with Index.open(tmp_path) as index:
        assert len(list(index.entries(pending=True))) == 1000
        index.begin(numbered(1000, start=1001))


def test_a_compromise_that_is_heard_of_later_is_the_reason(tmp_path: Path) -> None:
    with Index.open(tmp_path) as index:
        for reason in (Reason.SUPERSEDED, Reason.UNSPECIFIED, Reason.KEY_COMPROMISE, Reason.CA_COMPROMISE):
            index.revoke([Revocation("0a", NOW + timedelta(days=len(reason)), reason)])
        first = NOW + timedelta(days=len(Reason.SUPERSEDED))
        assert index.revocation("0a") == Revocation("0a", first, Reason.KEY_COMPROMISE)
        assert index.revocation("0b") is None

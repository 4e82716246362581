"""`edge.state`: server certificates are remembered for good, and a broken memory never stops the edge."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from mtls_ambassador.edge.state import remember_server_certificate, state_directory

A, B = "aa" * 32, "bb" * 32


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("named", "environment", "user", "directory"),
    [
        (Path("/data"), {"STATE_DIRECTORY": "/x", "HOME": "/home/a"}, 0, "/data"),
        (None, {"STATE_DIRECTORY": "/var/lib/x:/var/lib/y", "HOME": "/home/a"}, 1000, "/var/lib/x"),
        (None, {"HOME": "/root"}, 0, "/var/lib/mtls-ambassador"),
        (None, {"HOME": "/home/a"}, 1000, "/home/a/.local/state/mtls-ambassador"),
        (None, {"HOME": "/home/a", "XDG_STATE_HOME": "/s"}, 1000, "/s/mtls-ambassador"),
        (None, {"STATE_DIRECTORY": "", "HOME": ""}, 1000, "/.local/state/mtls-ambassador"),
    ],
)
def test_where_the_state_is(
    monkeypatch: pytest.MonkeyPatch, named: Path | None, environment: dict[str, str], user: int, directory: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert state_directory(named, environment) == Path(directory)


def test_certificates_are_remembered(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"
    assert remember_server_certificate(directory, A) == {A}
    assert remember_server_certificate(directory, B) == {A, B}
    assert remember_server_certificate(directory, A) == {A, B}
    (file,) = directory.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_what_is_known_is_not_written_again(tmp_path: Path) -> None:
    remember_server_certificate(tmp_path, A)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_ino
    remember_server_certificate(tmp_path, A)
    assert file.stat().st_ino == before


@pytest.mark.parametrize("content", ["", "junk", "[]", "{}", '{"sha256": null}', '{"sha256": 5}', "\udcff"])
def test_a_broken_file_is_told_and_begun_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "server-certificates.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with capture_logs() as logged:
        assert remember_server_certificate(tmp_path, A) == {A}
    assert [event["log_level"] for event in logged] == ["warning"]
    assert json.loads(file.read_text()) == {"sha256": [A]}


def test_what_is_no_fingerprint_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "server-certificates.json").write_text(json.dumps({"sha256": [A, "x", 5, None, A.upper()]}))
    assert remember_server_certificate(tmp_path, B) == {A, B}


def test_the_latest_thousand_are_kept(tmp_path: Path) -> None:
    many = [f"{number:064x}" for number in range(1000)]
    (tmp_path / "server-certificates.json").write_text(json.dumps({"sha256": many}))
    assert remember_server_certificate(tmp_path, A) == {*many[1:], A}


def test_a_directory_that_cannot_be_made_is_told_and_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as logged:
        assert remember_server_certificate(tmp_path / "file" / "state", A) == {A}
    assert "cannot be written" in logged[-1]["event"]
    assert "state_dir" in logged[-1]["remedy"]

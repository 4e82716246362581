"""Where an edge keeps what it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.place import load_place
from mtls_ambassador.config.values import AuditTarget


def test_the_strongest_counts_and_nothing_else_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("state_dir: /a\nledger_url_file: /not/there\nmender_pass_file: /not/there\nlisten: nonsense\n")
    url = "postgresql://u:hunter2@h/d"
    place = load_place(file, {"MTLS_STATE_DIR": "/b", "MTLS_LEDGER_URL": url, "MTLS_ODD": "x"}, {})
    assert (place.state_dir, place.ledger_url) == (Path("/b"), url)
    assert "hunter2" not in repr(place)
    assert load_place(None, {}, {"state_dir": "/c"}, default_file=tmp_path / "none").state_dir == Path("/c")


def test_nothing_said(tmp_path: Path) -> None:
    place = load_place(None, {}, {}, default_file=tmp_path / "none")
    assert (place.state_dir, place.ledger_url) == (None, None)
    assert place.audit_log is None


def test_the_audit_log(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("audit_log: /var/log/audit.jsonl\n")
    assert load_place(file, {}, {}).audit_log == AuditTarget(Path("/var/log/audit.jsonl"))
    assert load_place(file, {"MTLS_AUDIT_LOG": "off"}, {}).audit_log is None
    with pytest.raises(ConfigurationError, match=r"audit_log .*is neither a file nor stdout nor off"):
        load_place(None, {"MTLS_AUDIT_LOG": ""}, {"audit_log": " "}, default_file=tmp_path / "none")


def test_a_default_file_of_somebody_else(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("state_dir: /a\n")
    file.chmod(0o666)
    with pytest.raises(ConfigurationError, match="another user"):
        load_place(None, {}, {}, default_file=file)


def test_a_url_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not begin with postgresql://") as caught:
        load_place(None, {"MTLS_LEDGER_URL": "mysql://u:hunter2@h/d"}, {}, default_file=tmp_path / "none")
    assert "hunter2" not in str(caught.value)

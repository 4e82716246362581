"""Whether somebody wants faults told in detail."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.config.detail import wants_detail


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", True), ("1", True), ("false", False), ("0", False), ("", False), ("nonsense", False)]
)
def test_the_environments_value_is_read_as_a_setting(tmp_path: Path, value: str, wanted: bool) -> None:
    assert wants_detail(None, {"MTLS_DEBUG_LOG": value}, {}, default_file=tmp_path / "none") is wanted


def test_the_strongest_counts(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("debug_log: true\nlisten: nonsense\n")
    assert wants_detail(file, {}, {})
    assert wants_detail(None, {}, {}, default_file=file)
    assert not wants_detail(file, {"MTLS_DEBUG_LOG": "false"}, {})
    assert wants_detail(file, {"MTLS_DEBUG_LOG": "false"}, {"debug_log": True})
    assert not wants_detail(None, {}, {}, default_file=tmp_path / "none")


def test_a_file_that_cannot_be_read_is_told_by_who_needs_it(tmp_path: Path) -> None:
    assert not wants_detail(tmp_path / "none.yaml", {}, {})

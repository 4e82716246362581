"""`device.scratch`: what a killed program left is removed, what another is at stays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from pathlib import Path

import pytest

from mtls_ambassador.device.scratch import scratch


def test_it_is_there_within_the_block_only(tmp_path: Path) -> None:
    with scratch(tmp_path) as directory:
        assert directory.parent == tmp_path
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "key").write_bytes(b"secret")
    assert list(tmp_path.iterdir()) == []


def test_after_a_kill_the_next_one_removes_it(tmp_path: Path) -> None:
    def killed() -> None:
        with scratch(tmp_path) as directory:
            (directory / "key").write_bytes(b"secret")
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    (left,) = tmp_path.iterdir()
    assert (left / "key").exists()
    with scratch(tmp_path) as directory:
        assert list(tmp_path.iterdir()) == [directory]


def test_what_another_is_at_stays(tmp_path: Path) -> None:
    with scratch(tmp_path) as one, scratch(tmp_path) as two:
        assert sorted(tmp_path.iterdir()) == sorted([one, two])
        with scratch(one) as within:
            assert within.parent == one


def test_other_folders_and_links_stay(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / ".hidden").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    (tmp_path / "images" / ".mtls-ambassador-x").symlink_to(tmp_path / "theirs")
    with scratch(tmp_path / "images"):
        pass
    assert (tmp_path / "images" / ".hidden").exists()
    assert (tmp_path / "theirs" / "file").exists()


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), scratch(tmp_path / "none"):
        pass

"""`files`: whole or not at all, the mode as asked, nothing overwritten that must not be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mtls_ambassador.errors import Error
from mtls_ambassador.files import Content, ExistsError, WriteError, write_atomically, write_new, write_together


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("wanted", [0o600, 0o640, 0o644])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path: Path, wanted: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"1", wanted)
        write_new(tmp_path / "b", b"2", wanted)
    finally:
        os.umask(before)
    assert [mode(tmp_path / "a"), mode(tmp_path / "b")] == [wanted, wanted]
    assert names(tmp_path) == ["a", "b"]


def test_a_reader_that_has_the_old_file_open_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old", 0o644)
    with path.open("rb") as reader:
        write_atomically(path, b"new content", 0o600)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new content"
    assert mode(path) == 0o600


def test_a_symbolic_link_is_replaced_and_what_it_names_is_untouched(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "link"
    elsewhere.write_bytes(b"precious")
    link.symlink_to(elsewhere)
    write_atomically(link, b"new", 0o600)
    assert elsewhere.read_bytes() == b"precious"
    assert not link.is_symlink()


def test_a_new_file_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_new(path, b"first", 0o600)
    with pytest.raises(ExistsError, match="a is there already") as caught:
        write_new(path, b"second", 0o600)
    assert isinstance(caught.value, Error)
    assert caught.value.remedy
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_a_dangling_link_counts_as_there(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ExistsError):
        write_new(tmp_path / "a", b"1", 0o600)
    assert names(tmp_path) == ["a"]


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file or directory") as caught:
        write_atomically(tmp_path / "no" / "a", b"1", 0o600)
    assert caught.value.remedy


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old", 0o600)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        write_atomically(path, b"new", 0o600)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_file_and_directory_reach_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").is_dir())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_atomically(tmp_path / "a", b"1", 0o600)
    assert synced == [False, True]


def test_a_file_system_that_cannot_sync_a_directory_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def picky(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    write_atomically(tmp_path / "a", b"1", 0o600)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_file_system_without_hard_links_still_refuses_to_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_new(tmp_path / "a", b"first", 0o600)
    with pytest.raises(ExistsError):
        write_new(tmp_path / "a", b"second", 0o600)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_of_files_that_belong_together_none_is_written_if_one_is_there(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    certificate.write_bytes(b"old")
    with pytest.raises(ExistsError, match="certificate"):
        write_together([Content(key, b"k", 0o600), Content(certificate, b"c", 0o644)], replace=False)
    assert names(tmp_path) == ["certificate"]
    assert certificate.read_bytes() == b"old"


def test_of_files_that_belong_together_none_is_replaced_if_one_cannot_be(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    key.write_bytes(b"old key")
    key.chmod(0o600)
    certificate.mkdir()
    with pytest.raises(WriteError, match="Is a directory"):
        write_together([Content(key, b"k", 0o600), Content(certificate, b"c", 0o644)], replace=True)
    assert key.read_bytes() == b"old key"
    assert mode(key) == 0o600
    assert names(tmp_path) == ["certificate", "key"]


def test_the_content_is_not_in_its_representation() -> None:
    assert "secret" not in repr(Content(Path("a"), b"secret", 0o600))

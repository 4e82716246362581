from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from mtls_ambassador.factory import package
from mtls_ambassador.factory.package import STAGING, File, Package
from mtls_ambassador.files import WriteError

FILES = (File("key", b"secret", 0o600), File("cert", b"public"))


def write(out: Path, packages: list[Package]) -> None:
    package.stage(out, packages)
    package.place(out, [each.name for each in packages])


def test_a_folder_is_written_with_its_modes(tmp_path: Path) -> None:
    package.clear_staging(tmp_path)
    write(tmp_path, [Package("one", FILES), Package("two", FILES)])
    for name in ("one", "two"):
        assert (tmp_path / name / "key").read_bytes() == b"secret"
        assert (tmp_path / name / "key").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / name / "cert").stat().st_mode & 0o777 == 0o644
    assert list((tmp_path / STAGING).iterdir()) == []
    package.remove_staging(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one", "two"]


def test_an_archive_holds_the_same(tmp_path: Path) -> None:
    package.clear_staging(tmp_path)
    write(tmp_path, [package.archive("one", FILES, 1_700_000_000)])
    path = tmp_path / "one.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        assert [(each.name, each.mode, each.mtime) for each in tar] == [
            ("one/key", 0o600, 1_700_000_000),
            ("one/cert", 0o644, 1_700_000_000),
        ]
        key = tar.extractfile("one/key")
        assert key is not None
        assert key.read() == b"secret"


def test_nothing_is_in_its_place_if_one_cannot_be_staged(tmp_path: Path) -> None:
    package.clear_staging(tmp_path)
    with pytest.raises(WriteError):
        package.stage(tmp_path, [Package("one", FILES), Package("x" * 300, FILES)])
    assert [each.name for each in tmp_path.iterdir()] == [STAGING]
    package.clear_staging(tmp_path)
    assert list((tmp_path / STAGING).iterdir()) == []


def test_what_somebody_put_in_a_place_stays(tmp_path: Path) -> None:
    package.clear_staging(tmp_path)
    package.stage(tmp_path, [package.archive("one", FILES, 0), Package("two", FILES)])
    (tmp_path / "one.tar.gz").write_bytes(b"theirs")
    with pytest.raises(WriteError, match=r"one\.tar\.gz was put there"):
        package.place(tmp_path, ["one.tar.gz", "two"])
    assert (tmp_path / "one.tar.gz").read_bytes() == b"theirs"
    assert sorted(package.staged(tmp_path)) == ["one.tar.gz", "two"]
    (tmp_path / "one.tar.gz").unlink()
    package.place(tmp_path, package.staged(tmp_path))
    assert package.staged(tmp_path) == []


def test_an_archive_is_known_by_its_device() -> None:
    assert package.name_of_archive(package.archive_name("a.b")) == "a.b"


def test_what_is_secret_is_not_in_a_traceback() -> None:
    assert "secret" not in repr(Package("one", FILES))

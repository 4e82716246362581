"""`device.image`: what is asked of mender-artifact; what that does, tests/e2e show."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mtls_ambassador.device.conf import Wanted
from mtls_ambassador.device.errors import ImageError
from mtls_ambassador.device.image import Placed, Workbench, check_places, copied, credentials_in_place, install_command
from mtls_ambassador.device.material import Credentials


def test_modes_are_octal_to_mender_artifact() -> None:
    command = install_command("file", "image.sdimg", Placed("/data/mender/k", b"", 0o600))
    assert command == ["mender-artifact", "install", "-m", "0600", "file", "image.sdimg:/data/mender/k"]


def test_where_credentials_go() -> None:
    found = credentials_in_place(Credentials(b"c", b"k", b""), Wanted(certificate="/c", key="/k"))
    assert found == (Placed("/k", b"k", 0o600), Placed("/c", b"c", 0o644))
    assert credentials_in_place(Credentials(b"c", None, b""), Wanted(certificate="/c")) == found[1:]


@pytest.mark.parametrize("name", ["a.sdimg", "a.uefiimg", "a.img", "a.ext4"])
def test_images_hold_anything(name: str) -> None:
    check_places(Path(name), [Placed("/data/mender/k", b"", 0o600), Placed("/etc/k", b"", 0o600)])


def test_an_artifact_has_no_data_partition() -> None:
    check_places(Path("a.mender"), [Placed("/etc/k", b"", 0o600)])
    with pytest.raises(ImageError, match="is an Artifact") as error:
        check_places(Path("a.mender"), [Placed("/data/mender/k", b"", 0o600)])
    assert "--key-path" in error.value.remedy


@pytest.mark.parametrize("name", ["a", "a.zip", "a.sdimg.gz"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(ImageError, match="has none of the endings"):
        check_places(Path(name), [])


@pytest.mark.parametrize(("suffix", "name"), [(".ext4", "image.img"), (".sdimg", "image.sdimg")])
def test_mender_artifact_goes_by_the_ending(suffix: str, name: str) -> None:
    assert Workbench(Path("/w"), suffix).path == Path("/w") / name


@pytest.mark.parametrize(("private", "mode"), [(True, 0o640), (False, 0o644)])
def test_the_copy_takes_the_targets_place(tmp_path: Path, *, private: bool, mode: int) -> None:
    template = tmp_path / "a.img"
    template.write_bytes(b"old")
    template.chmod(0o644)
    with copied(template, template, private=private) as bench:
        assert stat.S_IMODE(bench.directory.stat().st_mode) == 0o700
        bench.path.write_bytes(b"new")
        assert template.read_bytes() == b"old"
    assert template.read_bytes() == b"new"
    assert stat.S_IMODE(template.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [template]


@pytest.mark.parametrize("error", [ImageError("x"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_leaves_the_image_as_it_was(tmp_path: Path, error: BaseException) -> None:
    template = tmp_path / "a.img"
    template.write_bytes(b"old")

    def work() -> None:
        with copied(template, template, private=True) as bench:
            bench.path.write_bytes(b"new")
            raise error

    with pytest.raises((ImageError, KeyboardInterrupt)):
        work()
    assert template.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [template]


def test_no_template_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"), copied(tmp_path / "a.img", tmp_path / "b.img", private=True):
        pass
    (tmp_path / "a.img").touch()
    with (
        pytest.raises(ImageError, match="No such file"),
        copied(tmp_path / "a.img", tmp_path / "x/b.img", private=True),
    ):
        pass


def test_without_mender_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("mtls_ambassador.device.image._SBIN", str(tmp_path))
    with pytest.raises(ImageError, match="cannot run mender-artifact") as error:
        Workbench(tmp_path, ".img").put(Placed("/a", b"", 0o600))
    assert "apt-get install mender-artifact" in error.value.remedy

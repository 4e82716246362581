"""`edge.work`: the work directory is for us alone, and what a killed edge left is removed."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtls_ambassador.edge.bootstrap import render_bootstrap
from mtls_ambassador.edge.plan import WorkPaths
from mtls_ambassador.edge.work import work_directory, write_configuration
from mtls_ambassador.errors import Error
from tests.unit.edge.plans import plan


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory with a short path, as sockets need; the usual one has the test's name in it."""
    with tempfile.TemporaryDirectory(prefix="w-") as name:
        yield Path(name)


def test_it_is_for_us_alone_and_gone_at_the_end(base: Path) -> None:
    with work_directory({"RUNTIME_DIRECTORY": str(base)}) as paths:
        assert paths.directory.parent == base
        assert mode(paths.directory) == 0o700
        assert mode(paths.server_secret.parent) == mode(paths.device_trust.parent) == 0o700
        (paths.directory / "left").write_text("")
    assert list(base.iterdir()) == []


def test_it_is_gone_after_an_error_too(base: Path) -> None:
    with pytest.raises(ZeroDivisionError), work_directory({"RUNTIME_DIRECTORY": str(base)}):
        raise ZeroDivisionError
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("environment", [{}, {"RUNTIME_DIRECTORY": ""}])
def test_without_systemd_it_is_in_the_temporary_directory(
    base: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    with work_directory(environment) as paths:
        assert paths.directory.parent == base


def test_the_first_of_systemds_directories_is_taken(base: Path) -> None:
    with work_directory({"RUNTIME_DIRECTORY": f"{base}:/run/other"}) as paths:
        assert paths.directory.parent == base


def test_what_a_killed_edge_left_is_removed(base: Path) -> None:
    abandoned = base / "mtls-edge-abandoned"
    (abandoned / "server").mkdir(parents=True)
    (abandoned / "lock").touch()
    with work_directory({"RUNTIME_DIRECTORY": str(base)}) as paths:
        assert list(base.iterdir()) == [paths.directory]


def test_what_others_use_stays(base: Path) -> None:
    foreign = base / "something-else"
    foreign.mkdir()
    (foreign / "lock").touch()
    being_made = base / "mtls-edge-being-made"
    being_made.mkdir()
    used = base / "mtls-edge-used"
    used.mkdir()
    with (used / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with work_directory({"RUNTIME_DIRECTORY": str(base)}):
            pass
        assert set(base.iterdir()) == {foreign, being_made, used}


def test_two_edges_do_not_remove_each_others(base: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": str(base)}
    with work_directory(environment) as first, work_directory(environment) as second:
        assert first.directory.is_dir()
        assert second.directory.is_dir()


def test_a_link_is_not_followed(base: Path) -> None:
    target = base / "target"
    target.mkdir()
    (target / "lock").touch()
    (base / "mtls-edge-link").symlink_to(target)
    with work_directory({"RUNTIME_DIRECTORY": str(base)}):
        pass
    assert (target / "lock").exists()


def test_a_base_that_is_not_there_is_told(base: Path) -> None:
    with (
        pytest.raises(Error, match=f"cannot make a work directory in {base}/none: No such file.*\n  Set TMPDIR"),
        work_directory({"RUNTIME_DIRECTORY": str(base / "none")}),
    ):
        pass


def test_a_path_too_long_for_sockets_is_told_and_removed(base: Path) -> None:
    deep = base / ("x" * 100)
    deep.mkdir()
    with (
        pytest.raises(Error, match="is too long for sockets in it\n  Set TMPDIR to a shorter path"),
        work_directory({"RUNTIME_DIRECTORY": str(deep)}),
    ):
        pass
    assert list(deep.iterdir()) == []


def test_the_configuration_is_for_us_alone(base: Path) -> None:
    with work_directory({"RUNTIME_DIRECTORY": str(base)}) as paths:
        chosen = dataclasses.replace(plan(), paths=WorkPaths(paths.directory))
        write_configuration(chosen)
        for file in (paths.bootstrap, paths.server_secret, paths.device_trust):
            assert mode(file) == 0o600
            json.loads(file.read_bytes())
        assert json.loads(paths.bootstrap.read_bytes()) == render_bootstrap(chosen)
        assert [file.name for file in paths.server_secret.parent.iterdir()] == ["secret.json"]

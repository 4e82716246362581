"""As in the container: uid 65534, the key 0600 and its own, no capability, nothing writable but work and state."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import CertificateAuthority
from tests.edge_process import EdgeProcess
from tests.world import PASSWORD, USER, edge_environment, write_settings_files

NOBODY = 65534

# Everything is made read-only in a mount namespace of its own; `$1` alone can be written. Where Python lives under a
# home directory that others may not enter, it is shown again under the same path.
_ISOLATE = r"""
set -eu
writable=$1 python=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$writable"
mkdir "$writable/work" "$writable/state" "$writable/python"
chown 65534:65534 "$writable/work" "$writable/state"
case $python in /root/*)
  mount --bind "$python" "$writable/python"
  mount -t tmpfs -o mode=0755 tmpfs /root
  mkdir -p "$python"
  mount --bind "$writable/python" "$python"
esac
awk '{print $5}' /proc/self/mountinfo | sort -u | while read -r point; do
  [ "$point" = "$writable" ] || mount -o remount,bind,ro "$point" 2>/dev/null || true
done
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""

_MUST_NOT_WRITE = """
import pathlib, sys
for name in sys.argv[1:]:
    try:
        pathlib.Path(name, "probe").write_text("x")
    except OSError as error:
        assert error.errno in (30, 13), error  # read-only file system, permission denied
    else:
        sys.exit(f"{name} can be written")
"""


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as entered:
        yield entered


@pytest.mark.needs("root", "setpriv", "unshare")
async def test_runs_unprivileged_on_a_read_only_system(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    writable = Path(tempfile.mkdtemp(prefix="rw-", dir="/tmp"))  # short, since sockets are in it
    stack.callback(shutil.rmtree, writable)
    ca = CertificateAuthority()
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    key_file = Path(str(files["server_key"]))
    os.chown(key_file, NOBODY, NOBODY)
    assert key_file.stat().st_mode & 0o777 == 0o600
    certificate, key = ca.device("device").write(tmp_path, "device")

    shell = shutil.which("sh") or "/bin/sh"
    isolated = ["unshare", "--mount", shell, "-c", _ISOLATE, "isolate", str(writable), sys.base_prefix]
    probe = [*isolated, sys.executable, "-c", _MUST_NOT_WRITE, "/", "/tmp", "/dev/shm", str(tmp_path), "/var/tmp"]
    async with EdgeProcess({}, directory=tmp_path, command=probe, wait=False) as checked:
        assert await checked.process.wait() == 0, checked.log_text()

    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as lab:
        environment = edge_environment(tmp_path, lab.url, files, state_dir=writable / "state")
        environment["TMPDIR"] = str(writable / "work")
        command = [*isolated, sys.executable, "-m", "mtls_ambassador"]
        async with EdgeProcess(environment, directory=tmp_path, command=command) as edge:
            status = Path(f"/proc/{edge.process.pid}/status").read_text()
            assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
            assert "CapEff:\t0000000000000000" in status
            url = f"https://my-server.com:{edge.port}"
            device = SimulatedDevice(
                url, tmp_path / "ca.pem", certificate, key, {"mac": "52:54:00:00:00:01"}, address="127.0.0.1"
            )
            async with device:
                await device.authenticate()
                await device.send_inventory()
            assert "cannot be written" not in edge.log_text()
            assert await edge.stop() == 0

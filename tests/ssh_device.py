"""A device to log in to: the machine's own sshd as an ordinary process, in a root directory that ends with it.

There the device's fixed paths are its own: /etc (a copy), /data, /var, the CA directory and Mender's identity scripts.
It has no systemd: its `systemctl` is a script that knows one unit, `mender-client`, and starts the real client for it.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.ports import lasting_port
from tests.world import eventually

PEERS = ("root", "sshd", "ssh", "ssh-keygen", "mender", "setpriv", "unshare", "update-ca-certificates")

# $1 is the new root, $2 the directory with our files. Everything mounted ends with the namespace.
_ROOT = r"""
set -eu
root=$1 ours=$2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$root"
mount --make-unbindable "$root"
for name in bin sbin lib lib32 lib64 libx32 usr proc sys dev; do
  if [ -h "/$name" ]; then cp -P "/$name" "$root/$name"
  elif [ -d "/$name" ]; then mkdir "$root/$name"; mount --rbind "/$name" "$root/$name"
  fi
done
mount -o remount,bind,ro "$root/usr"
cp -a /etc "$root/etc"
mkdir -p "$root/data" "$root/root" "$root/run/sshd" "$root/var/lib/mender" "$root/var/log" "$root/device"
mkdir -m 1777 "$root/tmp" "$root/var/tmp"
mount --bind "$ours" "$root/device"
mkdir -p "$root/etc/mender"
rm -f "$root/etc/mender/mender.conf"
mount -t tmpfs tmpfs "$root/usr/local/share/ca-certificates"
mount -t tmpfs tmpfs "$root/usr/share/mender/inventory"
mount -t tmpfs tmpfs "$root/usr/share/mender/identity"
cp "$ours/identity" "$root/usr/share/mender/identity/mender-device-identity"
cp "$ours/fallback.conf" "$root/var/lib/mender/mender.conf"
echo device_type=lab > "$root/var/lib/mender/device_type"
echo artifact_name=release-1 > "$root/etc/mender/artifact_info"
printf '127.0.0.1\tlocalhost\n' > "$root/etc/hosts"
exec chroot "$root" /usr/sbin/sshd -D -e -f /device/sshd_config
"""

_SYSTEMCTL = r"""#!/bin/sh
echo "$*" >> /device/systemctl.log
[ "${2:-}" = mender-client.service ] || exit 1
case $1 in
  cat) ;;
  stop | restart)
    if [ -e /run/mender.pid ]; then kill "$(cat /run/mender.pid)" || :; rm /run/mender.pid; fi
    [ "$1" = restart ] || exit 0
    setsid mender --no-syslog daemon < /dev/null >> /device/mender.log 2>&1 &
    echo $! > /run/mender.pid ;;
  *) exit 1 ;;
esac
"""


class SshDevice:
    """Runs for the time of an `async with`; it and all that runs on it die with the block.

    Args:
        directory: For its keys and logs.
        mac: What its identity script prints.
        listen: Its address and port; a free port of the loopback by default.
    """

    def __init__(
        self, directory: Path, *, mac: str = "52:54:00:12:34:56", listen: tuple[str, int] | None = None
    ) -> None:
        self.directory = directory
        self.identity = directory / "login"
        """The private key to log in with."""
        self.known_hosts = directory / "known_hosts"
        self._ours = directory / "device"
        self._root = directory / "root"
        self._mac = mac
        self._process: asyncio.subprocess.Process
        self.address, self.port = listen or ("127.0.0.1", lasting_port())

    @property
    def target(self) -> str:
        """As `device push` takes it."""
        return f"root@{self.address}:{self.port}"

    @property
    def options(self) -> list[str]:
        """What lets `device push` in."""
        return ["--identity", str(self.identity), "--known-hosts", str(self.known_hosts)]

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._prepare)
        with (self.directory / "sshd.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", _ROOT, "device", str(self._root), str(self._ours)),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            await eventually(lambda: "Server listening" in self._log() or self._process.returncode is not None, 30)
            assert self._process.returncode is None, self._log()
        except BaseException:
            await self._end()
            raise
        return self

    def _prepare(self) -> None:
        self._ours.mkdir(parents=True)
        self.directory.chmod(0o755)
        for key in (self.identity, self._ours / "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
        (self._ours / "authorized_keys").write_bytes(self.identity.with_suffix(".pub").read_bytes())
        self._script("identity", f"#!/bin/sh\necho mac={self._mac}\n")
        (self._ours / "bin").mkdir()
        self._script("bin/systemctl", _SYSTEMCTL)
        (self._ours / "fallback.conf").write_text(
            '{"DBus": {"Enabled": false}, "RetryPollIntervalSeconds": 5, "InventoryPollIntervalSeconds": 5}'
        )
        self._root.mkdir()
        (self._ours / "sshd_config").write_text(
            f"ListenAddress {self.address}:{self.port}\nHostKey /device/host\n"
            "AuthorizedKeysFile /device/authorized_keys\nPermitRootLogin prohibit-password\n"
            "UsePAM no\nStrictModes no\nPidFile none\n"
            "SetEnv PATH=/device/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        )
        host = (self._ours / "host.pub").read_text()
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {host}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def run(self, script: str) -> str:
        """What a script prints on the device; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-T", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.known_hosts}"),
            *("-i", str(self.identity), "-p", str(self.port), f"root@{self.address}"),
            shlex.join(["sh", "-euc", script]),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, complaint = await process.communicate()
        assert process.returncode == 0, complaint.decode()
        return output.decode()

    def systemctl_calls(self) -> list[str]:
        """What its `systemctl` was asked for."""
        log = self._ours / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def client_log(self) -> str:
        """What its Mender client logged."""
        log = self._ours / "mender.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _log(self) -> str:
        return (self.directory / "sshd.log").read_text(errors="replace")

    def _script(self, name: str, text: str) -> None:
        path = self._ours / name
        path.write_text(text)
        path.chmod(0o755)

    async def _end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._root.rmdir()

"""What a test needs of the machine: a laptop without it skips the test, CI fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = "root"
"""Not a program: namespaces, mounts and other users' files."""

# Program, and the Debian package that has it.
_PACKAGES = {
    "dbus-daemon": "dbus",
    "haproxy": "haproxy",
    "mender": "mender-client",
    "mender-artifact": "mender-artifact",
    "mender-cli": "mender-cli",
    "mender-connect": "mender-connect",
    "nginx": "nginx",
    "openssl": "openssl",
    "postgres": "postgresql",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "curl": "curl",
    "debugfs": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "parted": "parted",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "update-ca-certificates": "ca-certificates",
    "systemd-analyze": "systemd",
}
# Debian keeps PostgreSQL's programs out of the PATH.
_PLACES = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
)


def require(peer: str) -> None:
    """Go on if a program is installed, or with `ROOT` if we are root."""
    if peer == ROOT:
        if os.geteuid() != 0:
            unavailable("not root, which this test needs for namespaces or other users: run it with sudo")
    elif shutil.which(peer, path=_PLACES) is None:
        unavailable(f"{peer} is not installed: apt-get install {_PACKAGES[peer]}")


def unavailable(reason: str) -> NoReturn:
    """End a test that this machine cannot run: in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)

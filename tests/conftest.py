"""What all tests share: real peers are asked for by name, and missing ones are said so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Program, and the Debian package that has it.
_PACKAGES = {
    "dbus-daemon": "dbus",
    "mender": "mender-client",
    "mender-artifact": "mender-artifact",
    "mender-cli": "mender-cli",
    "mender-connect": "mender-connect",
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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose real peer is not installed, naming the line that installs it; in CI that is a failure.

    Skip what is slow, but in CI and where it is asked for.
    """
    if item.get_closest_marker("slow") and not os.environ.get("CI") and "slow" not in item.config.option.markexpr:
        pytest.skip("slow: pytest -m slow")
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program, path=_PLACES) is None:
                message = f"{program} is not installed: apt-get install {_PACKAGES[program]}"
                if os.environ.get("CI"):
                    pytest.fail(message, pytrace=False)
                pytest.skip(message)

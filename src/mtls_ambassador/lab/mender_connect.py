"""What mender-connect needs beside the Mender client: a D-Bus of their own, over which it asks for server and token.

Source: mender-connect 2.1 (client/mender/auth.go); dbus-daemon(1).
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

BUS_CONFIGURATION = Path("/etc/mender/lab-bus.conf")
CONFIGURATION = Path("/etc/mender/mender-connect.conf")

_SOCKET = "unix:path=/run/lab-bus"  # of the client's own /run
_BUS = f"""\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>{_SOCKET}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true"/>
    <allow receive_type="method_call"/>
    <allow receive_type="signal"/>
    <allow receive_requested_reply="true"/>
  </policy>
</busconfig>
"""


def bus_configuration() -> bytes:
    """The configuration of a bus on which everybody may do everything: only the device itself can reach it."""
    return _BUS.encode()


def environment() -> dict[str, str]:
    """What the Mender client and mender-connect need to find the bus."""
    return {"DBUS_SYSTEM_BUS_ADDRESS": _SOCKET}


def missing(path: str) -> str | None:
    """The line that installs what mender-connect needs and is not on `path`; None if nothing is missing."""
    packages = {"mender-connect": "mender-connect", "dbus-daemon": "dbus"}
    wanted = [package for program, package in packages.items() if shutil.which(program, path=path) is None]
    return f"apt-get install {' '.join(wanted)}" if wanted else None


def commands(root: Path, log: Path) -> list[str]:
    """Lines of a shell script that start the bus and, in the background, mender-connect.

    Args:
        root: The root directory that the client sees.
        log: Where mender-connect writes its log, as the script sees it.
    """
    inside = shlex.join(["chroot", str(root)])
    return [
        # Its parent ends when it listens.
        f"{inside} dbus-daemon --fork --nopidfile --config-file={BUS_CONFIGURATION}",
        f"{inside} mender-connect --debug daemon >>{shlex.quote(str(log))} 2>&1 &",
    ]

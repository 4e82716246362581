"""The walkthrough's blocks of commands, run in order by one shell: `python -m tests.walkthrough DIRECTORY`.

A test starts it in a network, a mount and a process namespace of its own, where the document's addresses and ports are
free to be as they are, and all that it starts ends with it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

from tests.container import loopback_up
from tests.disk_image import write_sdimg
from tests.ssh_device import SshDevice

DOCUMENT = Path(__file__).parents[1] / "docs" / "guide" / "walkthrough.md"
EDGE, DEVICE = "192.0.2.1", "192.0.2.7"
_SSH_CONFIGURATION = Path("/etc/ssh/ssh_config")


def blocks(text: str) -> list[str]:
    """The blocks of commands in a document."""
    return re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


async def _run(directory: Path) -> int:
    loopback_up()
    for number, address in enumerate((EDGE, DEVICE)):
        _add_address(f"lo:{number}", address)
    here = directory / "empty"
    here.mkdir(parents=True)
    await asyncio.to_thread(write_sdimg, here / "mender-disk-image.sdimg")
    async with SshDevice(directory / "device", listen=(DEVICE, 22)) as device:
        _log_in_with(device.identity, directory)
        shell = await asyncio.create_subprocess_exec(
            "bash", "-euxo", "pipefail", "-c", "\n".join(blocks(DOCUMENT.read_text(encoding="utf-8"))),
            cwd=here,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(here)},
            stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        status = await shell.wait()
        if status:
            for log in sorted(here.glob("*.log")):
                sys.stdout.write(f"--- {log.name}\n{log.read_text(errors='replace')}\n")
            sys.stdout.write(f"--- mender\n{device.client_log()}\n")
        return status


def _add_address(alias: str, address: str) -> None:
    """netdevice(7): SIOCSIFADDR on an alias of the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sHH4s8x", alias.encode(), socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(any_socket, 0x8916, request)


def _log_in_with(identity: Path, directory: Path) -> None:
    """Let ssh take this key, and remember host keys nowhere else than here."""
    configuration = directory / "ssh_config"
    configuration.write_text(f"IdentityFile {identity}\nUserKnownHostsFile {directory}/remembered\n")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", configuration, _SSH_CONFIGURATION], check=True)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(asyncio.run(_run(Path(sys.argv[1]))))

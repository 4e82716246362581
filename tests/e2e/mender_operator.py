"""An operator with the real mender-artifact and mender-cli."""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.world import PASSWORD, USER

DESTINATION = "/var/lib/mender/installed"
"""Where artifacts of `write_artifact` put their file; `installed` says where this machine sees it."""


@dataclass(frozen=True)
class Operator:
    """Commands of an operator, in a home directory of his own.

    Attributes:
        directory: His home, and for the artifacts he makes.
        url: The Mender Server.
        trust: PEM file of the CA that he trusts; None for a server without TLS.
    """

    directory: Path
    url: str
    trust: Path | None = None

    async def write_artifact(self, name: str, payload: Path, *, module: str = "single-file") -> Path:
        """An artifact that puts one file into `DESTINATION`, as single-file-artifact-gen makes it."""
        for field, value in (("dest_dir", DESTINATION), ("filename", payload.name), ("permissions", "644")):
            (self.directory / field).write_text(f"{value}\n")
        path = self.directory / f"{name}.mender"
        files = [self.directory / field for field in ("dest_dir", "filename", "permissions")]
        await self._run(
            *("mender-artifact", "write", "module-image", "-T", module, "-t", "lab", "-n", name),
            *("--compression", "none", "-o", path),
            *(part for file in (*files, payload) for part in ("-f", file)),
        )
        return path

    async def inspect(self, command: str, artifact: Path) -> str:
        """`mender-artifact validate` or `read`; what it says."""
        return await self._run("mender-artifact", command, artifact)

    async def log_in(self) -> None:
        """`mender-cli login`; it keeps the token in the home directory."""
        await self._run("mender-cli", "login", "--server", self.url, "--username", USER, "--password", PASSWORD)

    async def upload(self, artifact: Path) -> str:
        """`mender-cli artifacts upload`; what it says."""
        return await self.artifacts("upload", "--no-progress", "--description", "a test", artifact)

    async def artifacts(self, *arguments: object) -> str:
        """`mender-cli artifacts ...`; what it says."""
        return await self._run("mender-cli", "artifacts", "--server", self.url, *arguments)

    async def copy(self, source: object, target: object) -> str:
        """`mender-cli cp`, to or from a device that is written DEVICE_ID:PATH; what it says."""
        return await self._run("mender-cli", "cp", "--server", self.url, source, target)

    async def _run(self, *command: object) -> str:
        trust = {"SSL_CERT_FILE": str(self.trust)} if self.trust else {}
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **trust},
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0, said
        return said


def installed(state: Path, name: str) -> Path:
    """Where this machine sees a file that an artifact has installed on a device with that `/var/lib/mender`."""
    return state / "installed" / name

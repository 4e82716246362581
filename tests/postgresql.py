"""A real PostgreSQL, from Debian's package, for one test: on a Unix socket in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_DEBIAN = Path("/usr/lib/postgresql")
_NOBODY = 65534  # the server refuses to run as root
_PASSWORD = "correct-horse"


@dataclass(frozen=True)
class PostgreSql:
    """A server and its one database.

    Attributes:
        directory: Of its data and its socket.
        binaries: Where its programs are.
    """

    directory: Path
    binaries: Path

    @property
    def url(self) -> str:
        """As `ledger_url` takes it."""
        return f"postgresql://postgres:{_PASSWORD}@/postgres?host={self.directory}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.directory}' -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-o", options, "-l", str(self.directory / "log"))

    def stop(self, how: str = "fast") -> None:
        """Stop it: `fast` ends its connections, `immediate` is a crash."""
        self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", how)

    def restart(self, how: str = "fast") -> None:
        """Stop and start it."""
        self.stop(how)
        self.start()

    def make(self) -> None:
        """Make its data directory."""
        secret = self.directory / "password"
        secret.write_text(_PASSWORD)
        self._run(
            "initdb", "-D", self._data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(secret), "-N",
            "--no-locale", "-E", "UTF8",
        )  # fmt: skip

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self.binaries / program), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *command]
        # Its output goes to a file: the server would hold a pipe open for as long as it lives.
        with (self.directory / "output").open("a") as output:
            done = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            said = [file.read_text() for file in (self.directory / "output", self.directory / "log") if file.exists()]
            raise AssertionError(f"{program} failed: {' '.join(said)}")


def binaries() -> Path | None:
    """Where `initdb` and `pg_ctl` are: Debian keeps them out of the PATH."""
    places = sorted(_DEBIAN.glob("*/bin"), reverse=True)
    found = shutil.which("initdb", path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    return Path(found).resolve().parent if found else None


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSql]:
    """A server that runs for the time of the block."""
    where = binaries()
    assert where is not None
    # A socket's path may have 107 characters, and every user must be able to enter the directories above it.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        directory = Path(name)
        if os.geteuid() == 0:
            os.chown(directory, _NOBODY, _NOBODY)
        server = PostgreSql(directory, where)
        server.make()
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(AssertionError):  # a test may have stopped it
                server.stop("immediate")

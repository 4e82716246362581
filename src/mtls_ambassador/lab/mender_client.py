"""The real Mender client (Debian's mender-client, the Go one) as a device on this machine that leaves no trace on it.

The client wants its files at fixed paths and its server's CA in the system's trust store. It gets them in a mount
namespace: a root directory put together of bind mounts, the host's own and ours over them, which ends with the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mtls_ambassador.errors import Error
from mtls_ambassador.lab import mender_connect

# Nothing of the caller's environment: a proxy or SSL_CERT_FILE there would change what the client does.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

_CONFIGURATION = Path("/etc/mender")
_IDENTITY = Path("/usr/share/mender/identity")
_INVENTORY = Path("/usr/share/mender/inventory")
_MODULES = Path("/usr/share/mender/modules/v3")
_STATE = Path("/var/lib/mender")
_TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
_HOSTS = Path("/etc/hosts")

# Read after mender.conf, which wins: a refused device tries again soon, and does not ask for a system bus.
_FALLBACK = {"DBus": {"Enabled": False}, "RetryPollIntervalSeconds": 5}

_KERNEL = {Path("/proc"), Path("/sys"), Path("/dev")}
# Without the host's /run the client cannot reach systemd or a system bus, so it cannot reboot the machine either.
_EMPTY = {Path("/tmp"): "1777", Path("/run"): "0755"}  # noqa: S108 - the client's own

_REMEDY = "run it as root, or where the kernel allows user namespaces."


class MenderClientError(Error):
    """The real Mender client cannot be run here, or did not start."""


def find_mender() -> Path | None:
    """The installed Mender client, None when there is none."""
    found = shutil.which("mender", path=_ENVIRONMENT["PATH"])
    return Path(found) if found else None


def obstacle() -> str | None:
    """Why `MenderClient` cannot work on this machine, with what to do about it in one line; None when it can."""
    if find_mender() is None:
        return "the Mender client is not installed: apt-get install mender-client"
    try:
        subprocess.run(
            [*_isolated(), "mount", "-t", "tmpfs", "tmpfs", "/etc"],
            env=_ENVIRONMENT,
            check=True,
            capture_output=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        return f"no mount namespace ({said.decode(errors='replace').strip()}): {_REMEDY}"
    return None


class MenderClient:
    """`mender daemon` for the time of an `async with`; it and all its children die with the block, or with us.

    Entering the block again, or with another object on the same directory, is the same device after a power cut.

    Args:
        directory: Where the device's files, its state and its log are kept; made if missing, readable by us alone.
        conf: `/etc/mender/mender.conf`.
        identity: What the identity script prints.
        inventory: What an inventory script prints, beside what the client sends by itself.
        hosts: Lines of `/etc/hosts`: name to IP address; `localhost` is there.
        trust: PEM certificates added to the system's trust store, as `update-ca-certificates` would.
        files: More files by absolute path, such as `/data/mender/mender-cert.pem`; only root can read them there.
        device_type: What the device says it is.
        artifact_name: What it says it runs, until it has installed an update.
        modules: More update modules, programs by their name.
        connect: `/etc/mender/mender-connect.conf`; if given, mender-connect runs beside the client, with a D-Bus of
            their own.
    """

    def __init__(
        self,
        directory: Path,
        *,
        conf: Mapping[str, Any],
        identity: Mapping[str, str],
        inventory: Mapping[str, str] | None = None,
        hosts: Mapping[str, str] | None = None,
        trust: Sequence[Path] = (),
        files: Mapping[str, bytes] | None = None,
        device_type: str = "lab",
        artifact_name: str = "release-1",
        modules: Mapping[str, bytes] | None = None,
        connect: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.log_path = self.directory / "mender.log"
        self.connect_log_path = self.directory / "mender-connect.log"
        self._layer = self.directory / "files"
        self._trust = tuple(trust)
        names = {"localhost": "127.0.0.1", **(hosts or {})}
        self._files = {
            _CONFIGURATION / "mender.conf": (json.dumps(conf, indent=2).encode(), 0o600),
            _CONFIGURATION / "artifact_info": (f"artifact_name={artifact_name}\n".encode(), 0o600),
            _IDENTITY / "mender-device-identity": (_printing(identity), 0o700),
            _INVENTORY / "mender-inventory-lab": (_printing(inventory or {}), 0o700),
            _STATE / "mender.conf": (json.dumps(_FALLBACK).encode(), 0o600),
            _STATE / "device_type": (f"device_type={device_type}\n".encode(), 0o600),
            _HOSTS: ("".join(f"{address}\t{name}\n" for name, address in names.items()).encode(), 0o644),
            **{Path(path): (content, 0o600) for path, content in (files or {}).items()},
            **{_MODULES / name: (program, 0o700) for name, program in (modules or {}).items()},
        }
        self._connects = connect is not None
        if connect is not None:
            self._files |= {
                _STATE / "mender.conf": (json.dumps(_FALLBACK | {"DBus": {"Enabled": True}}).encode(), 0o600),
                mender_connect.CONFIGURATION: (json.dumps(connect, indent=2).encode(), 0o600),
                mender_connect.BUS_CONFIGURATION: (mender_connect.bus_configuration(), 0o644),
            }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether the client has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def state(self) -> Path:
        """Where this machine sees the device's `/var/lib/mender`."""
        return _below(self._layer, _STATE.resolve())

    def log_text(self) -> str:
        """What the client has logged so far, over all its runs; empty before the first."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def connect_log_text(self) -> str:
        """The same of mender-connect."""
        return self.connect_log_path.read_text(errors="replace") if self.connect_log_path.exists() else ""

    async def __aenter__(self) -> Self:
        """Write the files and start the client; when it returns, the client runs, but need not have connected.

        Raises:
            MenderClientError: the client is not installed, a file cannot be written, or the kernel refused.
        """
        program = find_mender()
        if program is None:
            raise MenderClientError("the Mender client is not installed", "Install it: apt-get install mender-client.")
        if self._connects and (line := mender_connect.missing(_ENVIRONMENT["PATH"])):
            raise MenderClientError("mender-connect or the D-Bus it needs is not installed", f"Install it: {line}.")
        before = len(self.log_text())
        try:
            script, log = self._prepare(program)
        except OSError as error:
            raise MenderClientError(f"cannot lay out the device in {self.directory}: {error}") from error
        try:
            # The death signal goes to unshare, --kill-child takes it on to the client, which is PID 1 of its own
            # PID namespace, and the kernel ends that with it.
            self._process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", *_isolated(), "sh", "-eu", str(script)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_ENVIRONMENT | (mender_connect.environment() if self._connects else {}),
            )
        except OSError as error:
            raise MenderClientError(f"cannot start the Mender client: {error}") from error
        finally:
            os.close(log)
        try:
            ready = await output.readline() if (output := self._process.stdout) else b""
        except BaseException:
            await self._end()
            raise
        if not ready:
            await self._end()
            said = self.log_text()[before:].strip() or "it ended at once"
            raise MenderClientError(f"the Mender client did not start: {said}", _REMEDY.capitalize())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.communicate()  # its output ends when the last process that holds it is gone
        self._process = None

    def _prepare(self, program: Path) -> tuple[Path, int]:
        """Write everything; the script that starts the client, and its log, open."""
        root = self.directory / "root"
        for path in (self.directory, self._layer, root):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._layer.iterdir():
            if not self.state.is_relative_to(path):  # of an earlier run, only the state outlives it
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        files = dict(self._files)
        if self._trust:
            system = [_TRUST] if _TRUST.exists() else []
            bundle = b"\n".join(path.read_bytes() for path in (*system, *self._trust))
            files[_TRUST] = (bundle, 0o644)
        # Resolved, so that a link of the host (/var/lib/mender is one) and its target are one place for us too.
        for path, (content, mode) in files.items():
            _write(_below(self._layer, path.resolve()), content, mode)
        own = {path.resolve() for path in (_CONFIGURATION, _IDENTITY, _INVENTORY, _STATE, *_EMPTY)}
        lines = [
            "exec 3>&1 1>&2  # held open by every process to come: its end tells that all of them are gone",
            *(shlex.join(command) for command in _mounts(Path("/"), self._layer, root, own)),
            *(mender_connect.commands(root, self.connect_log_path) if self._connects else ()),
            "echo ready >&3",
            shlex.join(["exec", "chroot", str(root), str(program), "--no-syslog", "daemon"]),
        ]
        script = self.directory / "start.sh"
        _write(script, "\n".join([*lines, ""]).encode(), 0o600)
        return script, os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _isolated() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child"]


def _mounts(place: Path, layer: Path, root: Path, own: set[Path]) -> Iterator[list[str]]:
    """The commands that make `root`/`place` the host's directory `place` with what `layer` has there laid over it.

    A mount point must exist. Where the host lacks one, its directory is made anew, in memory, with everything in it
    bound one by one; the host's directory is never written to.

    Args:
        place: A directory of the host and of the layer.
        layer: Our files, as a tree that begins at the root.
        root: The new root directory.
        own: Directories that are the layer's alone: what the host has there is not seen.
    """
    ours = {path.name: path for path in _below(layer, place).iterdir()}
    if place != Path("/") and all(_same_kind(place / name, path) for name, path in ours.items()):
        yield from _bind(place, _below(root, place), read_only=True)
    else:
        yield ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(_below(root, place))]
        # Otherwise a bind of the directory that `root` is in would carry a copy of it.
        yield ["mount", "--make-unbindable", str(_below(root, place))]
        for name in sorted({*(path.name for path in place.iterdir()), *ours}):
            source, target = ours.get(name, place / name), _below(root, place / name)
            if source.is_symlink():
                yield ["cp", "-P", str(source), str(target)]
                continue
            yield ["mkdir" if source.is_dir() else "touch", str(target)]
            if place / name in _EMPTY:
                yield ["mount", "-t", "tmpfs", "-o", f"mode={_EMPTY[place / name]}", "tmpfs", str(target)]
            elif name not in ours:
                yield from _bind(source, target, read_only=place / name not in _KERNEL)
    for name, path in sorted(ours.items()):
        inside = place / name
        if path.is_dir() and inside.is_dir() and inside not in own:
            yield from _mounts(inside, layer, root, own)
        else:
            yield from _bind(path, _below(root, inside), read_only=False)


def _bind(source: Path, target: Path, *, read_only: bool) -> Iterator[list[str]]:
    yield ["mount", "--rbind", str(source), str(target)]
    # Root's client could write to the machine; for a user's, the machine's permissions see to that already.
    if read_only and os.geteuid() == 0:
        yield ["mount", "-o", "remount,bind,ro", str(target)]


def _same_kind(host: Path, ours: Path) -> bool:
    return host.is_dir() if ours.is_dir() else host.is_file()


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _printing(data: Mapping[str, str]) -> bytes:
    """A script that prints `name=value` lines, as the client's identity and inventory scripts do."""
    lines = [shlex.join(["printf", "%s\\n", f"{name}={value}"]) for name, value in data.items()]
    return "\n".join(["#!/bin/sh", *lines, ""]).encode()

"""The unit without systemd: its command in namespaces, under the conditions that the file names.

`python -m tests.systemd_unit DIRECTORY` is run by a test inside a network namespace of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import SeedPki, seed_pki
from tests.container import IDENTITY, PASSWORD, USER, as_device, loopback_up
from tests.edge_process import EdgeProcess, alive
from tests.sandbox import ROOT, Bind, Sandbox
from tests.world import eventually

FILE = ROOT / "deploy" / "systemd" / "mtls-ambassador.service"

_DYNAMIC_USER = 61184
"""The first of those that systemd takes for DynamicUser=."""
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

# What a sandbox does in any case, what forbids only what needs a capability, and what is not for the process.
_CERTAIN = {
    "CapabilityBoundingSet": "",
    "DynamicUser": "yes",
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RuntimeDirectoryMode": "0700",
    "StateDirectoryMode": "0700",
    "SystemCallArchitectures": "native",
}
_READ_HERE = {
    "Environment", "ExecStart", "KillMode", "LimitNOFILE", "LoadCredential", "Restart", "RestartPreventExitStatus",
    "RestrictAddressFamilies", "RuntimeDirectory", "StateDirectory", "TimeoutStopSec", "UMask",
}  # fmt: skip
_OF_THE_MANAGER = {"OOMPolicy", "RestartSec", "Type"}


@dataclass(frozen=True)
class Unit:
    """What the file says of the service."""

    settings: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls) -> Unit:
        """Read it; fails on what is not understood here."""
        service = FILE.read_text(encoding="utf-8").partition("[Service]\n")[2].partition("\n[")[0]
        settings: dict[str, list[str]] = {}
        for name, value in re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE):
            settings.setdefault(name, []).append(value)
        assert settings.keys() == {*_CERTAIN, *_READ_HERE, *_OF_THE_MANAGER}
        assert {name: settings[name] for name in _CERTAIN} == {name: [value] for name, value in _CERTAIN.items()}
        return cls(settings)

    def one(self, name: str) -> str:
        """The only value of a setting."""
        (value,) = self.settings[name]
        return value

    def starts_again_after(self, status: int) -> bool:
        """Whether systemd starts it again after this exit status; negative is a signal, as in subprocess."""
        assert self.one("Restart") == "on-failure"
        clean = {0, -signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM, -signal.SIGPIPE}
        return status not in clean and str(status) not in self.one("RestartPreventExitStatus").split()

    def run(self, directory: Path) -> EdgeProcess:
        """Its command as a process; use `async with`, and wait for what it says.

        Args:
            directory: Has `etc`, which is shown as /etc/mtls-ambassador; the state is kept there too.
        """
        name, user = FILE.name, _DYNAMIC_USER
        state, runtime = self.one("StateDirectory"), self.one("RuntimeDirectory")
        kept, handed_over = directory / "state", directory / "credentials"
        kept.mkdir(mode=0o700, exist_ok=True)
        os.chown(kept, user, user)
        credentials = f"/run/credentials/{name}"
        shutil.rmtree(handed_over, ignore_errors=True)
        handed_over.mkdir(mode=0o500)
        os.chown(handed_over, user, user)
        for line in self.settings["LoadCredential"]:
            credential, _, source = line.partition(":")
            file = handed_over / credential
            shutil.copy(_here(source, directory), file)
            file.chmod(0o400)
            os.chown(file, user, user)
        sandbox = Sandbox(
            user,
            binds=[
                Bind(Path(sys.prefix), "/opt/mtls-ambassador", read_only=True),
                Bind(directory / "etc", "/etc/mtls-ambassador", read_only=True),
                Bind(handed_over, credentials, read_only=True),
                Bind(kept, f"/var/lib/private/{state}"),
                *(Bind(Path("/dev", device), f"/dev/{device}") for device in _DEVICES),
                Bind(Path("/dev/shm"), "/dev/shm"),
            ],
            tmpfs={
                "/tmp": "mode=1777,nosuid,nodev",
                "/var/tmp": "mode=1777,nosuid,nodev",
                "/dev": "mode=0755,nosuid,noexec",
                f"/run/private/{runtime}": f"mode=0700,uid={user},gid={user}",
            },
            read_only=True,
            open_files=int(self.one("LimitNOFILE")),
            umask=self.one("UMask"),
            more=[
                ["ln", "-s", f"private/{state}", f"/var/lib/{state}"],
                ["ln", "-s", f"private/{runtime}", f"/run/{runtime}"],
                ["mount", "-t", "proc", "-o", "hidepid=invisible", "proc", "/proc"],
            ],
            wrapper=[
                sys.executable,
                str(ROOT / "tests" / "system_calls.py"),
                *self.one("RestrictAddressFamilies").split(),
                "--",
            ],
        )
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            "LANG": "C.UTF-8",
            "HOME": "/",
            "CREDENTIALS_DIRECTORY": credentials,
            "RUNTIME_DIRECTORY": f"/run/{runtime}",
            "STATE_DIRECTORY": f"/var/lib/{state}",
            **dict(line.replace("%d", credentials).split("=", 1) for line in self.settings["Environment"]),
        }
        command = sandbox.command(*self.one("ExecStart").split())
        return EdgeProcess(environment, directory=directory, command=command, wait=False)


def _here(path: str, directory: Path) -> Path:
    return directory / "etc" / Path(path).relative_to("/etc/mtls-ambassador")


async def _the_unit_works(directory: Path) -> None:
    loopback_up()
    pki = seed_pki(directory)
    unit = Unit.read()
    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as lab:
        _lay_out(directory, pki, lab)
        async with unit.run(directory) as edge:
            await edge.line("the edge serves devices")
            _holds(unit, edge)
            async with as_device(pki, "127.0.0.1"):
                pass
            (known,) = lab.devices()
            assert (known.identity, known.status) == (IDENTITY, "accepted")
            assert "cannot be written" not in edge.log_text()
            await _stops(unit, edge)
        assert any((directory / "state").iterdir())
        await _is_started_again(unit, directory, pki, lab)
        await _is_not_started_again(unit, directory)


def _lay_out(directory: Path, pki: SeedPki, lab: LabServer) -> None:
    """/etc/mtls-ambassador as the unit's comments want it."""
    etc = directory / "etc"
    etc.mkdir(mode=0o755)
    configuration = {
        "mender_backend": lab.url,
        "server_cert": "/etc/mtls-ambassador/server.crt",
        "tenant_ca_pem": "/etc/mtls-ambassador/tenant.ca.pem",
    }
    for name, content, mode in (
        ("config.yaml", yaml.safe_dump(configuration).encode(), 0o644),
        ("server.crt", pki.server_certificate.read_bytes(), 0o644),
        ("tenant.ca.pem", pki.ca_certificate.read_bytes(), 0o644),
        ("server.key", pki.server_key.read_bytes(), 0o600),
        ("mender-token", lab.create_token("edge").encode(), 0o600),
    ):
        (etc / name).write_bytes(content)
        (etc / name).chmod(mode)


def _holds(unit: Unit, edge: EdgeProcess) -> None:
    edge.assert_runs_as(_DYNAMIC_USER)
    place = Path("/proc", str(edge.process.pid))
    status = (place / "status").read_text(encoding="utf-8")
    assert f"Umask:\t{unit.one('UMask')}" in status
    assert "Seccomp:\t2" in status  # a filter
    assert (place / "exe").resolve() == Path(sys.executable).resolve()


async def _stops(unit: Unit, edge: EdgeProcess) -> None:
    """KillMode=mixed: SIGTERM for the first process alone; what is left after TimeoutStopSec would be killed."""
    assert unit.one("KillMode") == "mixed"
    envoys = edge.envoy_pids()
    assert envoys
    async with asyncio.timeout(float(unit.one("TimeoutStopSec"))):
        status = await edge.stop()
    assert (status, unit.starts_again_after(status)) == (0, False)
    assert not any(map(alive, envoys))


async def _is_started_again(unit: Unit, directory: Path, pki: SeedPki, lab: LabServer) -> None:
    """After a crash, with the state of before: the device is known without asking Mender's management API."""
    async with unit.run(directory) as edge:
        await edge.line("the edge serves devices")
        assert unit.starts_again_after(await edge.stop(signal.SIGKILL))
    with socket.socket() as occupied:
        occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await eventually(lambda: _listens(occupied, 8080))  # Envoy is about to end
        async with unit.run(directory) as edge:
            assert unit.starts_again_after(await edge.process.wait()), edge.log_text()
    async with unit.run(directory) as edge:
        await edge.line("Mender's management API answers")
        before = len(lab.calls())
        async with as_device(pki, "127.0.0.1"):
            pass
        assert not [call for call in lab.calls()[before:] if "/management/" in call.path]
        assert await edge.stop() == 0


def _listens(listener: socket.socket, port: int) -> bool:
    """Whether the port is free, and taken now."""
    try:
        listener.bind(("0.0.0.0", port))
    except OSError:
        return False
    listener.listen()
    return True


async def _is_not_started_again(unit: Unit, directory: Path) -> None:
    """What only a change of the configuration mends."""
    (directory / "etc" / "config.yaml").write_text("mender_backend: nonsense\n", encoding="utf-8")
    async with unit.run(directory) as edge:
        assert not unit.starts_again_after(await edge.process.wait()), edge.log_text()


if __name__ == "__main__":
    asyncio.run(_the_unit_works(Path(sys.argv[1])))

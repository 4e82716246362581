"""Everything on this machine: a CA, an embedded Mender Server, the edge, and devices that get in by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from mtls_ambassador.ambassador import Ambassador
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.config.values import ListenAddress, parse_backend
from mtls_ambassador.errors import Error
from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.mender_client import MenderClient, obstacle
from mtls_ambassador.lab.server import LabDevice, LabServer, LabSettings
from mtls_ambassador.pki import authority
from mtls_ambassador.pki.issuing import Issued

USER = "mtls@mender.io"
_ANY_PORT = ListenAddress("127.0.0.1", 0)
_PATIENCE = 20.0
"""Seconds that a device may take to be accepted with its inventory."""


class Narrator(Protocol):
    """Tells the person in front of the screen what happens."""

    def step(self, text: str) -> None:
        """Something begins."""

    def fact(self, text: str) -> None:
        """Something happened."""

    def problem(self, text: str) -> None:
        """Something did not happen."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is running, for who wants to try more."""

    directory: Path
    edge_url: str
    lab_url: str
    health_url: str
    log_path: Path
    password: str
    devices: tuple[LabDevice, ...]
    expected: int

    @property
    def everybody_is_in(self) -> bool:
        """Whether every device of the demo is accepted and has sent inventory."""
        return len([device for device in self.devices if _is_in(device)]) == self.expected


def _is_in(device: LabDevice) -> bool:
    return device.status == "accepted" and bool(device.inventory)


@contextlib.asynccontextmanager
async def stage(directory: Path, log_path: Path, tell: Narrator) -> AsyncIterator[Scene]:
    """Set the demo up, let the devices come, and keep it all running for the time of the block.

    Args:
        directory: An empty directory for keys, certificates and the client's files.
        log_path: Where the edge's log goes, for the person to read.
        tell: Is told each step as it happens.

    Raises:
        Error: a part cannot start.
    """
    async with contextlib.AsyncExitStack() as stack:
        tell.step("Your CA, as in a factory")
        ca = authority.init(directory, "Demo CA")
        server = authority.issue_server(directory, "localhost", san=["DNS:localhost", "IP:127.0.0.1"])
        tell.fact(f"CA {_name(ca)}, server certificate for localhost, in {directory}")

        tell.step("A Mender Server (the embedded lab server)")
        password = secrets.token_urlsafe(12)
        lab = await stack.enter_async_context(LabServer(LabSettings(user=USER, password=password)))
        tell.fact(f"{lab.url}, management user {USER}, no device yet")

        tell.step("The edge: Envoy in front, the control plane beside it")
        began = time.monotonic()
        edge = await stack.enter_async_context(Ambassador(_settings(lab, ca, server, password, directory), os.environ))
        tell.fact(f"https://localhost:{edge.port}, ready after {time.monotonic() - began:.1f} s")

        expected = 1
        await _simulated_device(directory, edge.port, tell)
        why_not = await asyncio.to_thread(obstacle)
        if why_not is None:
            expected += 1
            await stack.enter_async_context(_real_client(directory, edge.port, ca, tell))
        else:
            tell.step("The real Mender client")
            tell.problem(f"left out: {why_not}")
        await _stranger(edge.port, ca, tell)
        await _wait_until_in(lab, expected, tell)
        yield Scene(
            directory=directory,
            edge_url=f"https://localhost:{edge.port}",
            lab_url=lab.url,
            health_url=f"http://127.0.0.1:{edge.health_port}",
            log_path=log_path,
            password=password,
            devices=tuple(lab.devices()),
            expected=expected,
        )


def _settings(lab: LabServer, ca: Issued, server: Issued, password: str, directory: Path) -> Settings:
    return Settings(
        listen=_ANY_PORT,
        health_listen=_ANY_PORT,
        admin_listen=_ANY_PORT,
        mender_backend=parse_backend(lab.url),
        mender_user=USER,
        mender_pass=SecretStr(password),
        server_cert=server.certificate_path,
        server_key=server.key_path,
        tenant_ca_pem=ca.certificate_path,
        state_dir=directory / "state",
        access_log="all",
    )


async def _simulated_device(directory: Path, port: int, tell: Narrator) -> None:
    tell.step("A simulated device, months later, somewhere in the world")
    issued = authority.issue_device(directory, "simulated-device", out=directory / "simulated-device")
    tell.fact("its certificate is signed by your CA; Mender has never heard of it")
    device = SimulatedDevice(
        f"https://localhost:{port}",
        directory / "ca-cert.pem",
        issued.certificate_path,
        issued.key_path,
        {"mac": "52:54:00:00:00:01"},
        address="127.0.0.1",
    )
    async with device:
        await device.authenticate()
        tell.fact("auth request: admitted, it has its token; nobody clicked anything")
        await device.send_inventory({"hostname": "simulated-device", "kernel": "6.1.0"})
        tell.fact("inventory: sent, through the edge, without Python on the way")
        update = await device.check_update()
        tell.fact(f"update check: {'an update' if update else 'nothing to do'}")


@contextlib.asynccontextmanager
async def _real_client(directory: Path, port: int, ca: Issued, tell: Narrator) -> AsyncIterator[None]:
    tell.step("The real Mender client (mender-client, as Debian ships it)")
    issued = authority.issue_device(directory, "debian-client", out=directory / "debian-client")
    certificate, key = "/data/mender/mender-cert.pem", "/data/mender/mender-cert-private.pem"
    client = MenderClient(
        directory / "client",
        conf={
            "InventoryPollIntervalSeconds": 5,
            "ServerURL": f"https://localhost:{port}",
            "TenantToken": "",
            "UpdatePollIntervalSeconds": 5,
            "HttpsClient": {"Certificate": certificate, "Key": key},
        },
        identity={"mac": "52:54:00:00:00:02"},
        inventory={"hostname": "debian-client"},
        trust=[ca.certificate_path],
        files={certificate: issued.certificate_path.read_bytes(), key: issued.key_path.read_bytes()},
    )
    async with client:
        tell.fact(f"runs with the mender.conf of Mender's documentation; its log: {client.log_path}")
        yield


async def _stranger(port: int, ca: Issued, tell: Narrator) -> None:
    tell.step("A stranger without a certificate")
    context = ssl.create_default_context(cafile=str(ca.certificate_path))
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(b"GET /api/devices/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await reader.read(1)
        writer.close()
    except (OSError, ssl.SSLError):
        answer = b""
    if answer:
        raise Error("a stranger without a certificate was answered", "Report this: it must never happen.")
    tell.fact("refused by TLS; Mender never heard of it")


async def _wait_until_in(lab: LabServer, expected: int, tell: Narrator) -> None:
    deadline = time.monotonic() + _PATIENCE
    while sum(map(_is_in, lab.devices())) < expected:
        if time.monotonic() > deadline:
            tell.problem("not every device was accepted; the edge's log says why")
            return
        await asyncio.sleep(0.1)


def _name(issued: Issued) -> str:
    return issued.certificate.subject.rfc4514_string()


def inventory_of(device: LabDevice) -> Mapping[str, str]:
    """A device's inventory as text."""
    return {name: _shown(value) for name, value in device.inventory.items()}


def _shown(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)

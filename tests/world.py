"""A whole world for a test: a CA, a lab Mender Server, a recording relay before it, and the real edge."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from mtls_ambassador.ambassador import Ambassador
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.config.sources import load
from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.server import LabDevice, LabServer, LabSettings
from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.ledger.schema import history
from mtls_ambassador.managements import by_management
from mtls_ambassador.observe.logging import configure
from tests.certificates import CertificateAuthority, Holder
from tests.relay import Relay
from tests.secrets_in_logs import assert_no_secrets, credentials_sent, private_keys_in

USER = "mtls@mender.io"
PASSWORD = "correct-horse-battery-staple"

_TRIED = ("management API answers", "new devices cannot be admitted now", "probe of Mender's management API failed")
"""What the edge says, one or the other, of each management session when it has tried it."""


@dataclass
class World:
    """What is running."""

    directory: Path
    ca: CertificateAuthority
    server: Holder
    lab: LabServer
    relay: Relay
    edge: Ambassador
    log: io.StringIO
    _count: int = field(default=0)

    @property
    def url(self) -> str:
        """Where devices connect."""
        return f"https://my-server.com:{self.edge.port}"

    def log_text(self) -> str:
        """The edge's log so far."""
        return self.log.getvalue()

    def log_lines(self, word: str) -> list[str]:
        """Lines of the edge's log that hold `word`."""
        return [line for line in self.log_text().splitlines() if word in line]

    async def history(self, *kinds: EventKind) -> list[str]:
        """The reasons, or else the kinds, of the ledger's entries of these kinds, in their order."""
        assert self.edge.ledger is not None
        await self.edge.ledger.flush()
        wanted = select(history.c.reason, history.c.kind).where(history.c.kind.in_(kinds)).order_by(history.c.id)
        rows = await self.edge.ledger.query(lambda connection: list(connection.execute(wanted)))
        return [row.reason or row.kind for row in rows]

    def device(
        self, holder: Holder | None = None, identity: Mapping[str, Any] | None = None, **options: Any
    ) -> SimulatedDevice:
        """A simulated device with a certificate of our CA (or `holder`), not yet authenticated; use `async with`."""
        self._count += 1
        holder = holder or self.ca.device(f"device-{self._count}")
        certificate, key = holder.write(self.directory, f"device-{self._count}")
        return SimulatedDevice(
            self.url,
            self.directory / "ca.pem",
            certificate,
            key,
            identity or {"mac": f"52:54:00:00:00:{self._count:02x}"},
            address="127.0.0.1",
            **options,
        )

    def mender_device(self, identity: Mapping[str, Any]) -> LabDevice:
        """What the lab server knows of the device with this identity."""
        (found,) = [device for device in self.lab.devices() if device.identity == dict(identity)]
        return found

    def client_context(
        self,
        holder: Holder | None,
        *,
        version: ssl.TLSVersion | None = None,
        chain: bool = True,
    ) -> ssl.SSLContext:
        """A TLS client that trusts our CA and shows `holder`'s certificate, with its intermediates or without."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.ca.pem.decode())
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if holder is not None:
            self._count += 1
            certificate, key = holder.write(self.directory, f"client-{self._count}")
            if not chain:
                certificate.write_bytes(holder.pem)
            context.load_cert_chain(certificate, key)
        return context

    async def raw(
        self,
        context: ssl.SSLContext,
        data: bytes,
        *,
        until: Callable[[bytes], bool] | None = None,
        source: str = "127.0.0.1",
    ) -> bytes:
        """Open a TLS connection, send `data`, and return what comes back until the end, or until `until` is content.

        Args:
            context: The TLS client.
            data: What it sends.
            until: None: never.
            source: The client's address, of loopback.

        Raises:
            OSError: TLS failed, or the connection was reset; ssl.SSLError is one too.
        """
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.edge.port, ssl=context, server_hostname="my-server.com", local_addr=(source, 0)
        )
        answer = b""
        try:
            writer.write(data)
            async with asyncio.timeout(20):
                while chunk := await reader.read(65536):
                    answer += chunk
                    if until is not None and until(answer):
                        break
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return answer

    async def request(
        self, context: ssl.SSLContext, method: str, target: str, headers: str = "", body: bytes = b""
    ) -> tuple[int, bytes]:
        """One HTTP/1.1 request on a connection of its own; returns status and the raw rest (headers and body)."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: my-server.com\r\nConnection: close\r\n{length}{headers}\r\n"
        answer = await self.raw(context, head.encode("latin-1") + body)
        status_line, _, rest = answer.partition(b"\r\n")
        return int(status_line.split()[1]), rest


def write_settings_files(directory: Path, ca: CertificateAuthority, server: Holder) -> dict[str, object]:
    """Write the files that settings name; returns those settings."""
    certificate, key = server.write(directory, "server")
    key.chmod(0o600)
    bundle = directory / "ca.pem"
    bundle.write_bytes(ca.pem)
    return {"server_cert": str(certificate), "server_key": str(key), "tenant_ca_pem": str(bundle)}


def edge_settings(directory: Path, backend: str, files: Mapping[str, object], **options: object) -> Settings:
    """Settings of an edge on free ports of loopback; tests may ask faster than a device may."""
    given: dict[str, object] = {
        "mender_backend": backend,
        "auth_rate_per_certificate": "off",
        "listen": "127.0.0.1:0",
        "health_listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "state_dir": str(directory / "state"),
        "shutdown_grace": "3s",
        **files,
    }
    if "trust_anchors" in options:  # they bring their own
        given.pop("tenant_ca_pem", None)
    elif "mender_token" not in options:
        given |= {"mender_user": USER, "mender_pass": PASSWORD}
    return load(None, {}, {**given, **options}, default_file=directory / "none.yaml").settings


def edge_environment(directory: Path, backend: str, files: Mapping[str, object], **options: object) -> dict[str, str]:
    """The same as `edge_settings`, as environment variables for the real program."""
    given: dict[str, object] = {
        "mender_backend": backend,
        "mender_user": USER,
        "mender_pass": PASSWORD,
        "listen": "127.0.0.1:0",
        "health_listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "state_dir": directory / "state",
        **files,
        **options,
    }
    return {f"MTLS_{key.upper()}": str(value) for key, value in given.items()}


@contextlib.asynccontextmanager
async def world(
    directory: Path,
    *,
    ca: CertificateAuthority | None = None,
    server: Holder | None = None,
    lab: LabServer | LabSettings | None = None,
    bundle: bytes | None = None,
    **options: object,
) -> AsyncIterator[World]:
    """Start everything.

    Args:
        directory: For files; empty.
        ca: Signs devices and the server.
        server: The edge's certificate; by default for my-server.com, localhost and 127.0.0.1.
        lab: The Mender Server, not started yet, or what it is like; its user and password are USER and PASSWORD unless
            it says otherwise.
        bundle: Content of `tenant_ca_pem`, if it is not just the CA.
        options: Settings of the edge.
    """
    ca = ca or CertificateAuthority("My CA")
    server = server or ca.server("my-server.com", san=["DNS:my-server.com", "DNS:localhost", "IP:127.0.0.1"])
    files = write_settings_files(directory, ca, server)
    if bundle is not None:
        (directory / "bundle.pem").write_bytes(bundle)
        files["tenant_ca_pem"] = str(directory / "bundle.pem")
    if not isinstance(lab, LabServer):
        lab = LabServer(lab or LabSettings(user=USER, password=PASSWORD))
    log = io.StringIO()
    configure("text", debug=True, stream=log)
    try:
        async with (
            lab as running_lab,
            Relay(running_lab.port) as relay,
            quiet_edge(edge_settings(directory, f"http://127.0.0.1:{relay.port}", files, **options), log) as edge,
        ):
            yield World(directory, ca, server, running_lab, relay, edge, log)
        secrets = credentials_sent(bytes(relay.seen)) | private_keys_in(directory) | {PASSWORD}
        assert_no_secrets(log.getvalue(), secrets)
        assert b'"force"' not in relay.seen  # Mender's way to override an operator is never used
    finally:
        configure("text", debug=False)


@contextlib.asynccontextmanager
async def quiet_edge(settings: Settings, log: io.StringIO) -> AsyncIterator[Ambassador]:
    """An edge that has met Mender's management API, or trouble there: from now on it asks only for devices' sake."""
    before = _tried(log)
    async with Ambassador(settings, {}) as edge:
        await eventually(lambda: _tried(log) >= before + len(by_management(edge._managements)), 30)
        yield edge


def _tried(log: io.StringIO) -> int:
    return sum(log.getvalue().count(word) for word in _TRIED)


async def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until `condition` holds.

    Raises:
        AssertionError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds} s")
        await asyncio.sleep(0.02)

"""A simulated Mender device: authenticates, sends inventory and asks for updates, as the Go client 3.4 does."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from yarl import URL

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.auth_request import Attributes, PrivateKey, auth_request, go_json, json_headers

AUTH_REQUESTS = "/api/devices/v1/authentication/auth_requests"
INVENTORY = "/api/devices/v1/inventory/device/attributes"
NEXT_V1 = "/api/devices/v1/deployments/device/deployments/next"
NEXT_V2 = "/api/devices/v2/deployments/device/deployments/next"


class DeviceError(Error):
    """A simulated device cannot go on; also the base of the two below."""


class UnreachableError(DeviceError):
    """No HTTP answer: nobody listens, the TLS handshake failed, or the peer closed the connection."""


class RefusedError(DeviceError):
    """An answer with a `status` the call does not allow; `text` is its JSON `error`, else how the body begins."""

    def __init__(self, what: str, status: int, body: str) -> None:
        self.status = status
        self.text = " ".join(str((_object(body) or {}).get("error", body)).split())[:200]
        super().__init__(f"{what}: {status} {self.text}".rstrip())


@dataclass
class _Live:
    """What changes while a device runs."""

    session: aiohttp.ClientSession | None = None
    key: PrivateKey | None = None
    token: str = ""


@dataclass(frozen=True)
class SimulatedDevice:
    """One device, for the time of an `async with`.

    Attributes:
        server_url: `https://host[:port]`, as `ServerURL` of mender.conf.
        ca_file: PEM certificates that the server's must chain to; None for the system's.
        certificate: PEM client certificate, leaf first; None for a device that has none.
        key: PEM private key of the certificate; it signs auth requests unless `auth_key` is given.
        identity: The identity data.
        tenant_token: Hosted Mender's tenant token.
        auth_key: PEM private key for auth requests alone (mender-agent.pem of the C++ clients).
        device_type: What the device is, in inventory and update checks.
        artifact_name: What it runs.
        address: IP address to connect to, instead of asking DNS for the host of `server_url`.
        keep_alive: False opens a connection for each request, as the C++ clients do; the Go client keeps one.
        timeout: Seconds for one request.
    """

    server_url: str
    ca_file: Path | None
    certificate: Path | None
    key: Path
    identity: Attributes
    _: KW_ONLY
    tenant_token: str = field(default="", repr=False)
    auth_key: Path | None = None
    device_type: str = "simulated"
    artifact_name: str = "release-1"
    address: str | None = None
    keep_alive: bool = True
    timeout: float = 30.0
    _live: _Live = field(default_factory=_Live, init=False, repr=False, compare=False)

    async def __aenter__(self) -> Self:
        """Read the files; the first request opens the connection.

        Raises:
            DeviceError: a file is missing or not what it should be, or certificate and key do not fit.
        """
        self._live.key = load_key(self.auth_key or self.key)
        tls = _client_context(self.ca_file, self.certificate, self.key)
        self._live.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, force_close=not self.keep_alive),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._live.session, self._live.token = self._live.session, None, ""
        if session is not None:
            await session.close()

    async def authenticate(self) -> str:
        """Send an auth request; keep the token it is answered with, opaque text, for later calls, and return it.

        Raises:
            RefusedError: any answer but 200 with a token; pending and rejected devices get 401.
            UnreachableError: no answer.
        """
        if self._live.key is None:
            raise DeviceError("a simulated device is used outside its `async with` block")
        self._live.token = ""
        request = auth_request(self._live.key, self.identity, self.tenant_token)
        status, text = await self._send("POST", AUTH_REQUESTS, request.headers, request.body, chunked=False)
        if status != 200 or not text:
            raise RefusedError("authentication was refused", status, text or "no token in the answer")
        self._live.token = text
        return text

    async def send_inventory(self, attributes: Attributes | None = None) -> None:
        """Replace the device's inventory by `attributes`, device type and artifact name.

        Raises:
            RefusedError: any answer but 200.
            UnreachableError: no answer.
        """
        everything = self._provides() | dict(attributes or {})
        document = [{"name": name, "value": value} for name, value in everything.items()]
        status, text = await self._call("PUT", INVENTORY, document)
        if status != 200:
            raise RefusedError("inventory was refused", status, text)

    async def check_update(self) -> dict[str, Any] | None:
        """Ask for an update: version 2 of the call first, version 1 when the server does not know that.

        Returns:
            The deployment instructions (`id`, `artifact`), or None when there is nothing to do.

        Raises:
            RefusedError: any answer but 204 and 200 with a JSON object.
            UnreachableError: no answer.
        """
        provides = self._provides()
        asked = {"device_provides": provides, "update_control_map": True}
        status, text = await self._call("POST", NEXT_V2, asked)
        if status == 404:  # the open-source server has version 1 alone
            status, text = await self._call("POST", NEXT_V1, provides)
        if status == 204:
            return None
        instructions = _object(text)
        if status != 200 or instructions is None:
            raise RefusedError("the update check was refused", status, text)
        return instructions

    async def run(
        self,
        attributes: Attributes | None = None,
        *,
        inventory_interval: float,
        update_interval: float,
        retry_interval: float,
    ) -> None:
        """Be a device until cancelled; intervals in seconds, `retry_interval` after a failure.

        What happens is logged. Updates that are offered are logged, not installed.
        """
        now = asyncio.get_running_loop().time
        log = structlog.get_logger("lab.device").bind(identity=dict(self.identity))
        inventory_due = update_due = now()
        while True:
            try:
                if not self._live.token:
                    await self.authenticate()
                    log.info("device authenticated")
                if now() >= inventory_due:
                    await self.send_inventory(attributes)
                    inventory_due = now() + inventory_interval
                    log.info("inventory sent")
                if now() >= update_due:
                    update = await self.check_update()
                    update_due = now() + update_interval
                    log.info("update checked", deployment=update and update.get("id"))
                pause = min(inventory_due, update_due) - now()
            except DeviceError as error:
                log.warning("device request failed", reason=error.what)
                pause = retry_interval
            await asyncio.sleep(max(0.0, pause))

    def _provides(self) -> dict[str, str | Sequence[str]]:
        return {"artifact_name": self.artifact_name, "device_type": self.device_type}

    async def _call(self, method: str, path: str, document: object) -> tuple[int, str]:
        """Send JSON with the device token; on 401 authenticate and repeat, once, as the clients do."""
        body = go_json(document).encode()
        status, text = 401, ""
        if self._live.token:
            status, text = await self._send(method, path, json_headers(self._live.token), body)
        if status == 401:
            await self.authenticate()
            status, text = await self._send(method, path, json_headers(self._live.token), body)
        return status, text

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes, *, chunked: bool = True
    ) -> tuple[int, str]:
        """Send one request; all but auth requests leave the Go client chunked."""
        if self._live.session is None:
            raise DeviceError("a simulated device is used outside its `async with` block")
        named = URL(self.server_url.rstrip("/") + path)
        url = named.with_host(self.address) if self.address else named
        try:
            async with self._live.session.request(
                method,
                url,
                headers={**headers, "Host": named.host_port_subcomponent or ""},
                data=body,
                chunked=chunked or None,
                allow_redirects=False,
                server_hostname=named.raw_host,
            ) as response:
                return response.status, await response.text(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            what = str(error) or type(error).__name__
            raise UnreachableError(f"{method} {named} got no answer: {what}") from error


def load_key(path: Path) -> PrivateKey:
    """Read a PEM private key of a type that Mender verifies.

    Raises:
        DeviceError: the file cannot be read, is no unencrypted PEM key, or holds another type.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise DeviceError(f"cannot read the key {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise DeviceError(f"{path} is not a PEM private key without passphrase") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise DeviceError(f"{path} is a {type(key).__name__}", "Use an RSA, ECDSA or Ed25519 key.")
    return key


def _client_context(ca_file: Path | None, certificate: Path | None, key: Path) -> ssl.SSLContext:
    # Not ssl.create_default_context(): since Python 3.13 it refuses certificates without the extensions that
    # `openssl x509 -req` leaves out, which Mender's clients accept.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")  # an empty one, so that nobody is prompted
    except OSError as error:  # ssl.SSLError is one
        raise DeviceError(f"cannot use {ca_file}, {certificate} and {key}: {error}") from error
    return context


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

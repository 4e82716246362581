"""A simulated Mender device and its calls, each as one of the two real clients makes it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from mtls_ambassador.lab.auth_request import Attributes, PrivateKey, auth_request, go_json, json_headers
from mtls_ambassador.lab.credentials import Credentials, from_files
from mtls_ambassador.lab.transport import (
    DeviceError,
    Observer,
    RefusedError,
    Route,
    Style,
    Transport,
    json_object,
)

AUTH_REQUESTS = "/api/devices/v1/authentication/auth_requests"
INVENTORY = "/api/devices/v1/inventory/device/attributes"
DEPLOYMENTS = "/api/devices/v1/deployments/device/deployments"
NEXT_V1 = f"{DEPLOYMENTS}/next"
NEXT_V2 = "/api/devices/v2/deployments/device/deployments/next"
CONFIGURATION = "/api/devices/v1/deviceconfig/configuration"
CONNECT = "/api/devices/v1/deviceconnect/connect"


_KEPT = 256 * 1024  # bytes; thousands of devices download at once


@dataclass(frozen=True, slots=True)
class Download:
    """What was downloaded."""

    length: int
    sha256: str


@dataclass(slots=True)
class _Live:
    """What changes while a device runs."""

    artifact_name: str
    transport: Transport | None = None
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
        credentials: Gives what the four files above would, when the device starts; then they are not read.
        device_type: What the device is, in inventory and update checks.
        artifact_name: What it runs at first.
        address: IP address to connect to, instead of asking DNS for the host of `server_url`.
        style: Whose habits it has.
        timeout: Seconds for one request.
        observe: Is told of each call, and as `connection` of each TCP connection with its TLS handshake.
    """

    server_url: str
    ca_file: Path | None
    certificate: Path | None
    key: Path | None
    identity: Attributes
    _: KW_ONLY
    tenant_token: str = field(default="", repr=False)
    auth_key: Path | None = None
    credentials: Callable[[], Credentials] | None = field(default=None, repr=False)
    device_type: str = "simulated"
    artifact_name: str = "release-1"
    address: str | None = None
    style: Style = Style.GO
    timeout: float = 30.0
    observe: Observer | None = field(default=None, repr=False)
    _live: _Live = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_live", _Live(self.artifact_name))

    async def __aenter__(self) -> Self:
        """Read the files; the first request opens the connection.

        Raises:
            CredentialsError: a file is missing or not what it should be, or certificate and key do not fit.
            DeviceError: there is no key.
        """
        if self.credentials is not None:
            found = self.credentials()
        elif self.key is not None:
            found = from_files(self.ca_file, self.certificate, self.key, self.auth_key)
        else:
            raise DeviceError("a simulated device has no key")
        self._live.key = found.key
        route = Route(self.server_url, self.address, self.style, self.timeout, self.observe)
        self._live.transport = Transport(route, found.tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transport, self._live.transport, self._live.token = self._live.transport, None, ""
        if transport is not None:
            await transport.close()

    @property
    def is_authenticated(self) -> bool:
        """Whether it has a token, good or not."""
        return bool(self._live.token)

    def forget_token(self) -> None:
        """Be as after a restart: tokens are only kept in memory."""
        self._live.token = ""

    async def authenticate(self) -> str:
        """Send an auth request; keep the token it is answered with, opaque text, for later calls, and return it.

        Raises:
            RefusedError: any answer but 200 with a token; pending and rejected devices get 401.
            UnreachableError: no answer.
        """
        if self._live.key is None:
            raise _outside()
        self._live.token = ""
        request = auth_request(self._live.key, self.identity, self.tenant_token)
        status, text = await self._send(
            "authentication", "POST", AUTH_REQUESTS, headers=request.headers, body=request.body, chunked=False
        )
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
        status, text = await self._call("inventory", "PUT", INVENTORY, document)
        if status != 200:
            raise RefusedError("inventory was refused", status, text)

    async def check_update(self) -> dict[str, Any] | None:
        """Ask for an update: version 2 of the call first, version 1 in the client's own form where it is not known.

        Returns:
            The deployment instructions (`id`, `artifact`), or None when there is nothing to do.

        Raises:
            RefusedError: any answer but 204 and 200 with a JSON object.
            UnreachableError: no answer.
        """
        provides = self._provides()
        asked: dict[str, object] = {"device_provides": provides}
        if self.style is Style.GO:
            asked["update_control_map"] = True
        status, text = await self._call("update_check", "POST", NEXT_V2, asked)
        if status == 404:  # the open-source server has version 1 alone
            if self.style is Style.GO:
                status, text = await self._call("update_check", "POST", NEXT_V1, provides)
            else:
                query = URL.build(query=provides).query_string
                status, text = await self._call("update_check", "GET", f"{NEXT_V1}?{query}")
        if status == 204:
            return None
        instructions = json_object(text)
        if status != 200 or instructions is None:
            raise RefusedError("the update check was refused", status, text)
        return instructions

    async def report_status(self, deployment_id: str, status: str) -> None:
        """Tell the server how far a deployment is (`downloading`, `installing`, `success`, `failure`).

        Raises:
            RefusedError: any answer but 204; 409 means that the deployment was aborted.
            UnreachableError: no answer.
        """
        path = f"{DEPLOYMENTS}/{deployment_id}/status"
        answered, text = await self._call("deployment_status", "PUT", path, {"status": status})
        if answered != 204:
            raise RefusedError(f"the deployment status {status} was refused", answered, text)

    async def report_log(self, deployment_id: str, message: str, timestamp: str) -> None:
        """Send the log of a failed deployment: one line, with its time in RFC 3339.

        Raises:
            RefusedError: any answer but 204.
            UnreachableError: no answer.
        """
        document = {"messages": [{"timestamp": timestamp, "level": "error", "message": message}]}
        answered, text = await self._call("deployment_log", "PUT", f"{DEPLOYMENTS}/{deployment_id}/log", document)
        if answered != 204:
            raise RefusedError("the deployment log was refused", answered, text)

    async def report_configuration(self, values: Mapping[str, str]) -> None:
        """Say what the device is configured with, as the update module mender-configure does.

        Raises:
            RefusedError: any answer but 204.
            UnreachableError: no answer.
        """
        status, text = await self._call("configuration", "PUT", CONFIGURATION, dict(values))
        if status != 204:
            raise RefusedError("the configuration was refused", status, text)

    async def download(self, url: str) -> tuple[Download, bytes]:
        """Download an artifact, on a connection of its own and without a token.

        Where the link names the host of `server_url`, `address` holds for it too.

        Returns:
            What it was, and its content if that has at most 256 KiB, otherwise none of it.

        Raises:
            RefusedError: any answer but 200; to the Go client also one without Content-Length.
            UnreachableError: no answer, or less of it than it promised.
        """
        digest, length, content = hashlib.sha256(), 0, bytearray()
        async with self._transport().answer("download", "GET", url, headers={}) as response:
            if response.status != 200 or (self.style is Style.GO and response.content_length is None):
                raise RefusedError("the download was refused", response.status, await response.text(errors="replace"))
            is_kept = response.content_length is not None and response.content_length <= _KEPT
            async for chunk in response.content.iter_any():
                digest.update(chunk)
                length += len(chunk)
                if is_kept:
                    content += chunk
        return Download(length, digest.hexdigest()), bytes(content)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open the WebSocket of mender-connect, for the time of the block; pings are sent, and answered by themselves.

        Raises:
            RefusedError: any answer but 101.
            UnreachableError: no answer.
        """
        async with self._transport().socket(CONNECT, self._live.token) as socket:
            yield socket

    def installed(self, artifact_name: str) -> None:
        """Run this artifact from now on."""
        self._live.artifact_name = artifact_name

    def _transport(self) -> Transport:
        if self._live.transport is None:
            raise _outside()
        return self._live.transport

    def _provides(self) -> dict[str, str | Sequence[str]]:
        return {"artifact_name": self._live.artifact_name, "device_type": self.device_type}

    async def _call(self, kind: str, method: str, path: str, document: object = None) -> tuple[int, str]:
        """Send JSON with the device token; on 401 authenticate and repeat, once, as the clients do."""
        body = go_json(document).encode() if document is not None else b""
        status, text = 401, ""
        if self._live.token:
            status, text = await self._send(kind, method, path, headers=json_headers(self._live.token), body=body)
        if status == 401:
            await self.authenticate()
            status, text = await self._send(kind, method, path, headers=json_headers(self._live.token), body=body)
        return status, text

    async def _send(
        self, kind: str, method: str, path: str, *, headers: dict[str, str], body: bytes, chunked: bool = True
    ) -> tuple[int, str]:
        """Send one request; all bodies but those of auth requests leave the Go client chunked."""
        chunked = chunked and bool(body) and self.style is Style.GO
        answer = self._transport().answer(kind, method, path, headers=headers, body=body, chunked=chunked)
        async with answer as response:
            return response.status, await response.text(errors="replace")


def _outside() -> DeviceError:
    return DeviceError("a simulated device is used outside its `async with` block")

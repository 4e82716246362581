"""The other side of a `LabServer` in tests: devices with keys, and a user of the management API."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_ambassador.lab.server import LabServer

AUTH_REQUESTS = "/api/devices/v1/authentication/auth_requests"
ATTRIBUTES = "/api/devices/v1/inventory/device/attributes"
ARTIFACTS = "/api/management/v1/deployments/artifacts"
DEPLOYMENTS = "/api/management/v1/deployments/deployments"
DEVAUTH = "/api/management/v2/devauth"
USERADM = "/api/management/v1/useradm"
USER, PASSWORD = "mtls@mender.io", "correct horse"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]
    links: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        found = self.json
        assert found["request_id"] == self.headers["x-men-requestid"]
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        return str(found["error"])


@functools.cache
def key(name: str) -> PrivateKey:
    """One key for each name; names that start with rsa or ed25519 are of that kind, others P-256."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if name.startswith("ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def pem(public: PublicKeyTypes) -> str:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(private: PrivateKey, body: bytes) -> str:
    if isinstance(private, rsa.RSAPrivateKey):
        raw = private.sign(body, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        raw = private.sign(body, ec.ECDSA(hashes.SHA256()))
    else:
        raw = private.sign(body)
    return base64.b64encode(raw).decode()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@dataclass
class Peer:
    """Speaks to one server; `token` is the user's, logged in by `log_in`."""

    lab: LabServer
    http: aiohttp.ClientSession
    token: str = field(default="", repr=False)

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> Answer:
        """One request; `body` is sent as it is when it is bytes or an iterator, else as JSON.

        Header names are given with _ for -; the user's token is sent unless `token` is another, "" for none.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        used = self.token if token is None else token
        if used:
            sent.setdefault("Authorization", f"Bearer {used}")
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        data = json.dumps(body).encode() if isinstance(body, dict | list | str) else body
        url = self.lab.url + path
        async with self.http.request(
            method, url, data=data, headers=sent, skip_auto_headers=("Content-Type",), allow_redirects=False
        ) as found:
            names = {name.lower(): value for name, value in found.headers.items()}
            return Answer(found.status, await found.read(), names, tuple(found.headers.getall("Link", ())))

    async def log_in(self) -> str:
        found = await self.call("POST", f"{USERADM}/auth/login", token="", **basic(USER, PASSWORD))
        assert found.status == 200, found.text
        self.token = found.text
        return self.token

    async def authenticate(self, identity: object, name: str = "old") -> Answer:
        """A device's auth request with the key of that name, signed well."""
        body = auth_request(json.dumps(identity), name)
        return await self.call("POST", AUTH_REQUESTS, body, token="", X_MEN_Signature=sign(key(name), body))

    async def preauthorize(self, identity: object, name: str = "old", *, force: bool = False) -> Answer:
        body = {"identity_data": identity, "pubkey": pem(key(name).public_key()), "force": force}
        return await self.call("POST", f"{DEVAUTH}/devices", body)

    async def accepted(self, identity: object, name: str = "old") -> str:
        """Have a device preauthorized and return its token."""
        assert (await self.preauthorize(identity, name)).status == 201
        found = await self.authenticate(identity, name)
        assert found.status == 200, found.text
        return found.text

    async def upload(self, content: bytes, **fields: object) -> Answer:
        """Upload an artifact; `fields` as for `multipart`."""
        boundary, body = multipart(content, fields)
        return await self.call("POST", ARTIFACTS, body, Content_Type=f"multipart/form-data; boundary={boundary}")

    async def alive(self, token: str) -> bool:
        """Whether a device's token is good."""
        found = await self.call("PATCH", ATTRIBUTES, [], token=token)
        assert found.status in {200, 401}
        return found.status == 200


def auth_request(id_data: str, name: str) -> bytes:
    """The body, with the newline at the end that the Go client signs along."""
    fields = {"id_data": id_data, "tenant_token": "", "pubkey": pem(key(name).public_key())}
    return json.dumps(fields).encode() + b"\n"


def multipart(
    artifact: bytes, fields: Mapping[str, object] | None = None, *, boundary: str = "3f9b"
) -> tuple[str, bytes]:
    """Boundary and body of an upload in the order of mender-cli: fields such as size and description, the artifact."""
    parts = {"size": len(artifact), "description": "", **(fields or {})}
    texts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="artifact"; filename="a.mender"\r\n'
    kind = "Content-Type: application/octet-stream\r\n\r\n"
    return boundary, ("".join(texts) + head + kind).encode() + artifact + f"\r\n--{boundary}--\r\n".encode()

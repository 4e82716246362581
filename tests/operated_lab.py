"""A lab Mender Server with an operator at hand, and with answers that a test may replace or hold back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mtls_ambassador.lab.server import LabDevice, LabServer, LabSettings, Refusal
from mtls_ambassador.lab.server.database import Database
from mtls_ambassador.lab.server.identity import from_map
from tests.certificates import Holder
from tests.world import PASSWORD, USER

AUTH_REQUESTS = "/api/devices/v1/authentication/auth_requests"
DEVICES = "/api/management/v2/devauth/devices"
LOGIN = "/api/management/v1/useradm/auth/login"


@dataclass(frozen=True)
class SeenRequest:
    """A request as it reached the server."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True)
class RawAnswer:
    """An answer given instead of the server's own; header names and values as they are."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"application/json; charset=utf-8"),)


Script = Callable[[SeenRequest], Awaitable[RawAnswer | None]]
"""Answers in the server's stead, or waits as long as it likes and returns None, for the server to answer."""


class OperatedLab(LabServer):
    """A `LabServer` whose user and password are USER and PASSWORD, unless `settings` say otherwise."""

    def __init__(self, *, clock: Callable[[], float] = time.time, **settings: Any) -> None:
        super().__init__(LabSettings(**{"user": USER, "password": PASSWORD, **settings}), clock=clock)
        self.seen: list[SeenRequest] = []
        """Every request, in order of arrival."""
        self.script: Script | None = None

    def count(self, method: str, path: str) -> int:
        """How many requests of this method have come for exactly this path."""
        return sum((request.method, request.path) == (method, path) for request in self.seen)

    def admission_calls(self) -> list[tuple[str, str]]:
        """Method and path of the management calls so far, without logins and the edge's own probing."""
        return [
            (request.method, request.path)
            for request in self.seen
            if request.path.startswith(DEVICES) and request.path != f"{DEVICES}/count"
        ]

    def known(self, identity: Mapping[str, object]) -> LabDevice | None:
        """The device of this identity, if there is one."""
        return next((device for device in self.devices() if device.identity == dict(identity)), None)

    def statuses(self, identity: Mapping[str, object]) -> dict[str, str]:
        """The statuses of a device's auth sets by their PEM; empty if there is no such device."""
        device = self.known(identity)
        return {item.pubkey: item.status for item in device.auth_sets} if device else {}

    def status_of(self, identity: Mapping[str, object], holder: Holder) -> str | None:
        """The status of this holder's key for this identity."""
        return self.statuses(identity).get(holder.public_key_pem.decode())

    def preauthorise(self, identity: Mapping[str, object], holder: Holder) -> None:
        """Preauthorise a key, as an operator does."""
        self._devauth.preauthorize(from_map(identity), holder.public_key_pem.decode(), force=False)

    def knock(self, identity: Mapping[str, object], holder: Holder) -> None:
        """Have a device send an auth request around the edge: what is new becomes pending."""
        with contextlib.suppress(Refusal):
            self._devauth.submit(from_map(identity), holder.public_key_pem.decode())

    def decide(self, identity: Mapping[str, object], holder: Holder, status: str) -> None:
        """Accept, reject or reset a key, as an operator does."""
        device = self.known(identity)
        assert device is not None
        (auth_set,) = [item for item in device.auth_sets if item.pubkey == holder.public_key_pem.decode()]
        self.set_status(device.id, auth_set.id, status)

    def dismiss(self, device_id: str, auth_set_id: str) -> None:
        """Dismiss a key, as an operator does."""
        self._devauth.delete_set(device_id, auth_set_id)

    def remove(self, identity: Mapping[str, object]) -> None:
        """Decommission a device, as an operator does."""
        device = self.known(identity)
        assert device is not None
        self.decommission(device.id)

    def finish_removals(self) -> None:
        """Do now what `decommission_delay` puts off."""
        for device_id in self._devauth.store.decommissioning():
            self._devauth.remove(device_id)

    def log_in_elsewhere(self, times: int) -> None:
        """Log the user in from other places, which ends his oldest sessions."""
        for _ in range(times):
            self._useradm.login(USER, PASSWORD)

    def revoke_tokens(self) -> None:
        """Revoke all personal access tokens."""
        for token in self._useradm.tokens():
            self._useradm.delete_token(token.id)

    def _assemble(self, database: Database) -> ASGIApp:
        served = super()._assemble(database)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":  # a WebSocket has no body to wait for
                await served(scope, receive, send)
                return
            body = await _read(receive)
            request = SeenRequest(scope["method"], scope["path"], tuple(scope["headers"]), body)
            self.seen.append(request)
            answer = await self.script(request) if self.script else None
            if answer is None:
                await served(scope, _replay(body, receive), send)
                return
            await send(
                {"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, _length(answer)]}
            )
            await send({"type": "http.response.body", "body": answer.body})

        return app


@dataclass
class Hold:
    """A script that holds back the requests that are `wanted`, until `release`."""

    wanted: Callable[[SeenRequest], bool]
    held: int = 0
    """How many are or were held."""
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: SeenRequest) -> None:
        if self.wanted(request) and not self._released.is_set():
            self.held += 1
            await self._released.wait()

    def release(self) -> None:
        """Let them, and all that follow, go on."""
        self._released.set()


def answering(answer: RawAnswer, method: str, path: str) -> Script:
    """A script that gives `answer` to every request of this method whose path starts so."""

    async def script(request: SeenRequest) -> RawAnswer | None:
        return answer if request.method == method and request.path.startswith(path) else None

    return script


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return rest.pop() if rest else await receive()

    return replay


def _length(answer: RawAnswer) -> tuple[bytes, bytes]:
    return b"content-length", str(len(answer.body)).encode()

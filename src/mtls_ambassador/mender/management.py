"""Mender's management API, as far as admission needs it. `force` is never sent."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import structlog
from multidict import CIMultiDict

from mtls_ambassador.mender.device_token import tenant_of
from mtls_ambassador.mender.egress import Answer, Egress
from mtls_ambassador.mender.errors import (
    DeviceLimitReached,
    ManagementForbidden,
    ManagementUnavailable,
    RequestRefused,
    StateChanged,
    UpstreamUnavailable,
)
from mtls_ambassador.mender.session import Session, SessionStatus
from mtls_ambassador.wire import REQUEST_ID_HEADER

_log = structlog.get_logger()

_DEVICES = "/api/management/v2/devauth/devices"
_TIMEOUT = 8.0
_CALLS_AT_ONCE = 32
_LONGEST_WAIT = 30.0
"""Seconds for a place while others are answered; with call and forwarding it fits into the time of an auth request."""
_IDENTIFIER = re.compile(r"[A-Za-z0-9-]{1,64}")


class AuthSetStatus(StrEnum):
    """The states of an auth set."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    PREAUTHORIZED = "preauthorized"
    UNKNOWN = "unknown"
    """A state this version does not know."""


@dataclass(frozen=True, slots=True)
class AuthSet:
    """One key of a device, as Mender knows it."""

    id: str
    public_key_pem: str
    status: AuthSetStatus
    created: dt.datetime | None = None
    """When Mender first saw this key; None where it does not say."""


@dataclass(frozen=True, slots=True)
class MenderDevice:
    """A device, as Mender knows it."""

    id: str
    decommissioning: bool
    auth_sets: tuple[AuthSet, ...]


class Acceptance(Protocol):
    """What is to be accepted."""

    @property
    def auth_set_id(self) -> str:
        """The pending set."""

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Sets to delete when that is done."""


class Management:
    """Calls of the management API, bounded in number and time.

    Every call raises ManagementUnavailable when the API is down, slow, too busy or does not accept our credentials, and
    ManagementForbidden on 403.

    Args:
        egress: The way to Mender.
        session: Gives the token.
        clock: Monotonic seconds.
    """

    def __init__(self, egress: Egress, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._egress = egress
        self._clock = clock
        self.session = session
        """Gives the token."""
        self.status = SessionStatus("untried", "not asked yet")
        """What the last call met, for readiness and operators."""
        self._places = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._answered_at = 0.0
        self._not_before = 0.0
        self.calls = 0
        self.tenant: str | None = None
        """The tenant that our session is of, once there is one; empty on a server without tenants."""

    async def preauthorise(self, identity: Mapping[str, Any], public_key_pem: str, request_id: str) -> str | None:
        """Preauthorise a key for an identity that Mender does not know yet (`POST …/devauth/devices`, no `force`).

        Returns:
            None: done (201). Else the id of the device that has this identity already (409), with whatever key.

        Raises:
            RequestRefused: Mender does not take this identity or key.
        """
        body = {"identity_data": identity, "pubkey": public_key_pem}
        async with self._place():
            answer = await self._call("POST", _DEVICES, request_id, body)
        if answer.status == 201:
            return None
        if answer.status == 409:
            return _identifier(_object(answer).get("id"))
        if answer.status in (400, 413, 422):
            raise _refused(answer, "preauthorise")
        raise _unexpected(answer, "preauthorise")

    async def accept_where(
        self, device_id: str, choose: Callable[[MenderDevice | None], Acceptance | None], request_id: str
    ) -> bool:
        """Read a device with its auth sets, and accept the one that `choose` names, right after.

        `GET …/devauth/devices/{id}`, then `PUT …/auth/{aid}/status`. Mender has no conditional form of the second:
        what an operator does between the two is overridden. So they go in one go, without waiting in between.
        Leftovers are deleted after that (`DELETE …/auth/{aid}`).

        Args:
            device_id: Mender's id.
            choose: From the device (None: there is none of that id) to what to accept, or None to change nothing.
            request_id: Goes along with all calls.

        Returns:
            Whether an auth set was accepted.

        Raises:
            DeviceLimitReached: Mender's limit of accepted devices is reached.
            StateChanged: the set is gone, or in a state from which it cannot be accepted.
        """
        async with self._place():
            answer = await self._call("GET", f"{_DEVICES}/{device_id}", request_id)
            if answer.status not in (200, 404):
                raise _unexpected(answer, "read a device")
            chosen = choose(read_device(_object(answer)) if answer.status == 200 else None)
            if chosen is None:
                return False
            path = f"{_DEVICES}/{device_id}/auth/{chosen.auth_set_id}"
            answer = await self._call("PUT", f"{path}/status", request_id, {"status": "accepted"})
            if answer.status == 204:
                await self._delete(device_id, chosen.leftovers, request_id)
                return True
        if answer.status == 422:
            raise DeviceLimitReached("Mender's limit of accepted devices is reached", "Raise it, or remove devices.")
        if answer.status in (400, 404):
            raise StateChanged(f"Mender answered {answer.status} when the auth set was accepted")
        raise _unexpected(answer, "accept an auth set")

    async def _delete(self, device_id: str, auth_sets: Sequence[str], request_id: str) -> None:
        """Delete auth sets that nobody is to use any more; what cannot be deleted is told, and left."""
        for auth_set in auth_sets:
            try:
                answer = await self._call("DELETE", f"{_DEVICES}/{device_id}/auth/{auth_set}", request_id)
                if answer.status not in (204, 404):
                    raise _unexpected(answer, "delete an auth set")
            except (ManagementUnavailable, ManagementForbidden) as error:
                _log.warning(
                    "a preauthorised key that was replaced is left in Mender: delete it there",
                    device=device_id,
                    auth_set=auth_set,
                    reason=str(error),
                    request_id=request_id,
                )

    async def probe(self) -> None:
        """Ask for something small, to learn whether the API would help; a role that may not read it is no failure."""
        with contextlib.suppress(ManagementForbidden):
            async with self._place():
                await self._call("GET", f"{_DEVICES}/count?status=accepted", str(uuid.uuid4()))

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Be one of the few who call at the same time, and not for long.

        Raises:
            ManagementUnavailable: no place became free, or the calls took too long.
        """
        try:
            await self._wait_for_place()
            try:
                async with asyncio.timeout(_TIMEOUT):
                    yield
            finally:
                self._places.release()
        except TimeoutError as error:
            text = f"Mender's management API did not answer within {_TIMEOUT:g} s"
            self.status = SessionStatus("slow", text)
            raise ManagementUnavailable(text, label="slow", retry_after=30) from error
        except ManagementUnavailable as failure:
            self.status = SessionStatus(failure.label, failure.what)
            raise

    async def _wait_for_place(self) -> None:
        """Wait in the order of arrival, for as long as those before us are answered.

        A fleet that comes back after a power cut is thousands at once: for an API that works, that is only a queue.

        Raises:
            TimeoutError: nobody was answered for a while, or it takes too long all the same.
        """
        if not self._places.locked():
            await self._places.acquire()
            return
        now = asyncio.get_running_loop().time
        began = now()
        place = asyncio.ensure_future(self._places.acquire())
        try:
            while not place.done():
                patience = min(max(self._answered_at, began) + _TIMEOUT, began + _LONGEST_WAIT) - now()
                if patience <= 0:
                    raise TimeoutError
                await asyncio.wait((place,), timeout=patience)
        except BaseException:
            if not place.cancel():
                self._places.release()
            raise

    async def _call(self, method: str, path: str, request_id: str, body: Mapping[str, Any] | None = None) -> Answer:
        left = self._not_before - self._clock()
        if left > 0:
            raise ManagementUnavailable("Mender asked us to wait (429)", label="busy", retry_after=left)
        try:
            answer = await self._authorised(method, path, request_id, body)
            self._answered_at = asyncio.get_running_loop().time()
        except UpstreamUnavailable as error:
            raise ManagementUnavailable(error.what, error.remedy, label="unreachable", retry_after=30) from error
        if answer.status == 429:
            pause = answer.retry_after or 5.0
            self._not_before = self._clock() + pause
            raise ManagementUnavailable("Mender's management API is too busy (429)", label="busy", retry_after=pause)
        if answer.status >= 500:
            raise _unexpected(answer, f"{method} {path}")
        self.session.accept()
        self.status = self.session.status
        if answer.status == 403:
            raise ManagementForbidden(
                f"the role of the management user does not allow {method} on devices",
                "Give it a role that may read and manage devices.",
            )
        return answer

    async def _authorised(self, method: str, path: str, request_id: str, body: Mapping[str, Any] | None) -> Answer:
        """Send it; on 401 once more with a new session: the old one may have expired or been evicted."""
        content = json.dumps(body, ensure_ascii=False).encode() if body is not None else b""
        for last in (False, True):
            token = await self.session.token()
            self.tenant = tenant_of(token)
            headers = CIMultiDict({"Authorization": f"Bearer {token}", REQUEST_ID_HEADER: request_id})
            if content:
                headers["Content-Type"] = "application/json"
            self.calls += 1
            answer = await self._egress.request(method, path, headers=headers, body=content, within=_TIMEOUT)
            _log.debug("management call", method=method, path=path, status=answer.status, request_id=request_id)
            if answer.status != 401:
                return answer
            self.session.refuse(token)
            if last:
                break
        raise ManagementUnavailable(
            "Mender does not accept our session, though it was just opened",
            "Check the management user's rights in Mender.",
            label="credentials_refused",
            retry_after=60,
        )


def read_device(content: Mapping[str, Any]) -> MenderDevice:
    """Read Mender's Device object (management API v2).

    Raises:
        ManagementUnavailable: it has not the shape of one.
    """
    device_id = _identifier(content.get("id"))
    sets = content.get("auth_sets") or []
    if not isinstance(sets, list) or not all(isinstance(item, dict) for item in sets):
        raise _malformed()
    return MenderDevice(
        device_id,
        content.get("decommissioning") is True,
        tuple(
            AuthSet(
                _identifier(item.get("id")),
                str(item.get("pubkey")),
                _status(item.get("status")),
                _time(item.get("ts")),
            )
            for item in sets
        ),
    )


def _time(value: object) -> dt.datetime | None:
    try:
        time_ = dt.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time_ if time_.tzinfo is not None else None


def _status(value: object) -> AuthSetStatus:
    try:
        return AuthSetStatus(str(value))
    except ValueError:
        return AuthSetStatus.UNKNOWN


def _identifier(value: object) -> str:
    """An id fit to stand in a path."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise _malformed()
    return value


def _object(answer: Answer) -> dict[str, Any]:
    try:
        content = json.loads(answer.body)
    except ValueError as error:
        raise _malformed() from error
    if not isinstance(content, dict):
        raise _malformed()
    return content


def _malformed() -> ManagementUnavailable:
    return ManagementUnavailable(
        "Mender's management API gave an answer that is not in its form",
        "Check that mender_backend is a Mender Server.",
        label="error",
        retry_after=30,
    )


def _unexpected(answer: Answer, what: str) -> ManagementUnavailable:
    return ManagementUnavailable(
        f"Mender's management API answered {answer.status} ({what})",
        label="error",
        retry_after=answer.retry_after or 30.0,
    )


def _refused(answer: Answer, what: str) -> RequestRefused:
    try:
        reason = str(json.loads(answer.body)["error"])[:200]
    except (ValueError, KeyError, TypeError):
        reason = what
    return RequestRefused(
        f"Mender's management API answered {answer.status} ({reason})",
        label="error",
        retry_after=answer.retry_after or 30.0,
    )

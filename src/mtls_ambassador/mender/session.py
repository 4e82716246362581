"""The management session: a personal access token, or a login that is renewed in time, by one flight at a time."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from mtls_ambassador.config.anchors import Credentials
from mtls_ambassador.mender.egress import Egress
from mtls_ambassador.mender.errors import ManagementUnavailable, UpstreamUnavailable

_log = structlog.get_logger()

LOGIN_PATH = "/api/management/v1/useradm/auth/login"
_TIMEOUT = 10.0
_SHORTEST_HOLD_OFF = 2.0
_LONGEST_HOLD_OFF = 60.0
_LOGINS_IN_VAIN = 2
"""After so many logins in a row whose tokens were refused at their first use, there is none for a while."""
_RENEW_AFTER = 0.8
"""The part of a session's life after which it is renewed."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """What readiness and the operator see of the session."""

    label: str
    """`untried`, `ok`, or the label of the last failure."""
    text: str


class Session(Protocol):
    """Gives the token for management calls."""

    status: SessionStatus

    async def token(self) -> str:
        """A token that is good as far as we know.

        Raises:
            ManagementUnavailable: there is none now.
        """

    def refuse(self, token: str) -> None:
        """Note that Mender answered 401 to `token`."""

    def accept(self) -> None:
        """Note that Mender accepted a call."""


class PersonalAccessToken:
    """A token the user made in Mender; nothing renews it."""

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        self._clock = clock
        self._not_before = 0.0
        self.status = SessionStatus("untried", "mender_token has not been used yet")

    async def token(self) -> str:
        """The token, unless Mender refused it a moment ago.

        Raises:
            ManagementUnavailable: Mender refused it lately.
        """
        left = self._not_before - self._clock()
        if left > 0:
            raise _refused(self.status.text, left)
        return self._token

    def refuse(self, token: str) -> None:  # noqa: ARG002 - there is only one token
        """Leave Mender in peace for a while, then try again: the user may have mended it there."""
        self._not_before = self._clock() + _LONGEST_HOLD_OFF
        text = "Mender does not accept mender_token: it is wrong, expired or revoked"
        if self.status.label != "credentials_refused":
            _log.error(text, remedy="Make a new personal access token in Mender and set mender_token.")
        self.status = SessionStatus("credentials_refused", text)

    def accept(self) -> None:
        """Note that it works."""
        self.status = SessionStatus("ok", "Mender accepts mender_token")


class Login:
    """A session opened with user and password.

    Mender allows ten sessions a user and has no refresh: a new login may evict another replica's. So there is one login
    at a time, and after a failed one none for a while.

    Args:
        egress: The way to Mender.
        user: E-mail.
        password: Kept in memory only.
        clock: Monotonic seconds.
        wall_clock: Seconds since 1970, to which a token's `exp` refers.
    """

    def __init__(
        self,
        egress: Egress,
        user: str,
        password: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._egress = egress
        self._basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._user = user
        self._clock = clock
        self._wall_clock = wall_clock
        self._token: str | None = None
        self._proven = False
        """Whether Mender accepted a call with the token there is."""
        self._in_vain = 0
        self._renew_at = float("inf")
        self._not_before = 0.0
        self._failures = 0
        self._last_failure: ManagementUnavailable | None = None
        self._flight: asyncio.Task[str] | None = None
        self.status = SessionStatus("untried", "not logged in yet")

    async def token(self) -> str:
        """The session's token; logs in where there is none, or the one there is nears its end.

        Raises:
            ManagementUnavailable: the login failed now or lately.
        """
        if self._token is not None and self._clock() < self._renew_at:
            return self._token
        if self._flight is None:
            self._flight = asyncio.create_task(self._renew(), name="mender-login")
            self._flight.add_done_callback(self._landed)
        # Shielded: a caller that gives up does not take the login down for all the others.
        return await asyncio.shield(self._flight)

    def refuse(self, token: str) -> None:
        """Forget `token`, if it is still the current one: it expired, was evicted by other logins, or revoked."""
        if token != self._token:
            return
        self._token = None
        if not self._proven:
            self._in_vain += 1
        if self._in_vain >= _LOGINS_IN_VAIN:
            # Another login would fare no better, and might evict somebody else's session.
            self._hold_off(
                ManagementUnavailable(
                    "Mender does not accept the session it has just opened",
                    "Check the management user's rights in Mender.",
                    label="error",
                    retry_after=_SHORTEST_HOLD_OFF,
                )
            )

    def accept(self) -> None:
        """Note that it works."""
        self._proven = True
        self._in_vain = 0
        self._failures = 0
        self.status = SessionStatus("ok", "logged in")

    def _landed(self, flight: asyncio.Task[str]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # whoever waited has got it; if nobody did, it was logged all the same

    async def _renew(self) -> str:
        failure = self._last_failure
        left = self._not_before - self._clock()
        if failure is None or left <= 0:
            try:
                return await self._log_in()
            except ManagementUnavailable as error:
                self._hold_off(error)
                failure, left = error, self._not_before - self._clock()
        if self._token is not None and failure.label not in ("credentials_refused", "two_factor"):
            return self._token  # it nears its end, but still holds
        raise ManagementUnavailable(failure.what, failure.remedy, label=failure.label, retry_after=left) from failure

    async def _log_in(self) -> str:
        try:
            answer = await self._egress.request(
                "POST",
                LOGIN_PATH,
                headers={"Authorization": self._basic, "Content-Type": "application/json"},
                within=_TIMEOUT,
            )
        except UpstreamUnavailable as error:
            raise ManagementUnavailable(
                error.what, error.remedy, label="unreachable", retry_after=_SHORTEST_HOLD_OFF
            ) from error
        if answer.status == 200:
            return self._keep(answer.body)
        if answer.status == 401 and b"2fa" in answer.body.lower():
            raise ManagementUnavailable(
                "Mender wants a second factor for mender_user",
                "Make a personal access token for this user in Mender, and set mender_token instead.",
                label="two_factor",
                retry_after=_LONGEST_HOLD_OFF,
            )
        if answer.status in (401, 403):
            raise _refused("Mender does not accept mender_user with this mender_pass", _LONGEST_HOLD_OFF)
        label = "busy" if answer.status == 429 else "error"
        raise ManagementUnavailable(
            f"Mender answered {answer.status} to the login",
            label=label,
            retry_after=answer.retry_after or _SHORTEST_HOLD_OFF,
        )

    def _keep(self, body: bytes) -> str:
        token = body.decode("ascii", errors="replace").strip()
        if not token or not token.isprintable() or " " in token:
            raise ManagementUnavailable(
                "Mender answered 200 to the login, but with no token",
                "Check that mender_backend is a Mender Server.",
                label="error",
                retry_after=_LONGEST_HOLD_OFF,
            )
        self._token = token
        self._proven = False
        self._last_failure = None
        self._not_before = 0.0
        if not self._in_vain:
            self._failures = 0
        expiry = expiry_of(token)
        left = expiry - self._wall_clock() if expiry is not None else float("inf")
        # A clock that is far off must not make us log in at every call.
        self._renew_at = self._clock() + max(left * _RENEW_AFTER, 5.0)
        self.status = SessionStatus("ok", "logged in")
        _log.info("logged in to Mender", user=self._user)
        return token

    def _hold_off(self, failure: ManagementUnavailable) -> None:
        self._failures += 1
        pause = min(_LONGEST_HOLD_OFF, _SHORTEST_HOLD_OFF * 2 ** min(self._failures - 1, 10))
        pause = max(pause, failure.retry_after)
        self._not_before = self._clock() + pause
        self._last_failure = failure
        _log.debug("login failed", reason=failure.what, next_try_in=round(pause))
        self.status = SessionStatus(failure.label, failure.what)


def expiry_of(token: str) -> float | None:
    """The `exp` of a JWT (RFC 7519 section 4.1.4), unverified: Mender verifies it; we only want to be in time."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expiry = claims.get("exp")
    except (binascii.Error, ValueError, AttributeError):
        return None
    return float(expiry) if isinstance(expiry, int | float) and not isinstance(expiry, bool) else None


def _refused(what: str, retry_after: float) -> ManagementUnavailable:
    return ManagementUnavailable(
        what,
        "Devices that Mender knows still get in; new ones wait until the credentials are right.",
        label="credentials_refused",
        retry_after=retry_after,
    )


def open_session(credentials: Credentials, egress: Egress) -> Session:
    """The session that complete credentials give; nothing is sent yet."""
    if credentials.token is not None:
        return PersonalAccessToken(credentials.token.get_secret_value())
    password = credentials.password.get_secret_value() if credentials.password else ""
    return Login(egress, credentials.user or "", password)

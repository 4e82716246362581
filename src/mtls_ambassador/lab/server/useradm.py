"""useradm: logins, sessions and personal access tokens of the one user of the management API.

Source: Mender useradm, management API v1.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable

from mtls_ambassador.lab.server.records import User, UserToken, rfc3339
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.settings import LabSettings, Switches
from mtls_ambassador.lab.server.tokens import Signer, TokenRefused, bearer, user_claims
from mtls_ambassador.lab.server.useradm_store import UseradmStore

_LAST_USED_GRAIN = 300.0  # seconds
_LONGEST = 31536000  # seconds that a personal access token may be good for, when it ends at all


class Useradm:
    """The service; `clock` gives seconds since the epoch."""

    def __init__(
        self,
        store: UseradmStore,
        settings: LabSettings,
        switches: Switches,
        signer: Signer,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._settings = settings
        self._switches = switches
        self._signer = signer
        self._clock = clock
        created = rfc3339(clock())
        self._user = store.add_user(User(str(uuid.uuid4()), settings.user.lower(), created))

    def login(self, email: str, password: str, *, code: str = "", no_expiry: bool = False) -> str:
        """A session token; the oldest session beyond the limit ends.

        Args:
            email: Upper and lower case are one.
            password: The user's.
            code: The code of the second factor, if the account has one.
            no_expiry: The session does not end by itself.

        Raises:
            Refusal: 401.
        """
        self._check_password(email, password)
        if self._settings.two_factor and not re.fullmatch(r"[0-9]{6}", code):
            raise Refusal(401, "2fa: token2fa is missing or wrong")
        token = self._issue(None, None if no_expiry else self._settings.session_lifetime)
        self._store.keep_newest_sessions(self._user.id, self._settings.sessions_per_user)
        self._store.set_login(self._user.id, rfc3339(self._clock()))
        return token

    def check_viewer(self, email: str, password: str) -> None:
        """Check who wants to look at the server's page; there is no session, hence no second factor.

        Raises:
            Refusal: 401; 403, the user's role does not let him see devices.
        """
        self._check_password(email, password)
        if self._switches.role != "full":
            raise Refusal(403, "unauthorized")

    def verify(self, authorization: str) -> UserToken:
        """The session or personal access token that the Authorization header of a management call holds.

        Raises:
            Refusal: 401, there is none, or it is not good (any more).
        """
        now = self._clock()
        try:
            claims = self._signer.verify(bearer(authorization), now)
        except TokenRefused as error:
            raise Refusal(401, error.what) from None
        token = self._store.token(str(claims.get("jti", "")))
        if not claims.get("mender.user") or token is None or token.user_id != self._user.id:
            raise Refusal(401, "unauthorized")
        if token.expires is not None and token.expires <= now:
            raise Refusal(401, "unauthorized")
        if token.name is not None and (token.last_used is None or token.last_used < now - _LAST_USED_GRAIN):
            self._store.set_last_used(token.id, now)
        return token

    def create_token(self, name: str, expires_in: int) -> str:
        """A personal access token.

        Args:
            name: 1 to 4096 bytes, unique for the user.
            expires_in: Seconds, 0 to 31536000; 0: it does not end.

        Raises:
            Refusal: 400 a value is out of range, 409 the name is taken, 422 there are too many.
        """
        if not name or len(name.encode()) > 4096:
            raise Refusal(400, "name: the length must be between 1 and 4096.")
        if not 0 <= expires_in <= _LONGEST:
            raise Refusal(400, f"expires_in: must be no less than 0 and no greater than {_LONGEST}.")
        if len(self.tokens()) >= self._settings.tokens_per_user:
            raise Refusal(422, "maximum number of personal acess tokens reached for this user")  # sic
        if name in {token.name for token in self.tokens()}:
            raise Refusal(409, "Personal Access Token with a given name already exists")
        return self._issue(name, expires_in or None)

    def tokens(self) -> list[UserToken]:
        """The personal access tokens, oldest first."""
        return self._store.personal_tokens(self._user.id)

    def delete_token(self, token_id: str) -> None:
        """End a session or personal access token; one that is not there is as good."""
        self._store.delete_token(self._user.id, token_id)

    def user(self) -> User:
        """The user as he is now."""
        return self._store.user(self._user.id) or self._user

    def revoke_sessions(self) -> None:
        """End all sessions."""
        self._store.delete_sessions(self._user.id)

    def change_password(self, new: str) -> None:
        """Change the password: all sessions and personal access tokens end."""
        self._switches.password = new
        self._store.delete_tokens(self._user.id)

    def _check_password(self, email: str, password: str) -> None:
        known = secrets.compare_digest(email.lower().encode(), self._user.email.encode())
        if not secrets.compare_digest(password.encode(), self._switches.password.encode()) or not known:
            raise Refusal(401, "unauthorized")

    def _issue(self, name: str | None, lifetime: float | None) -> str:
        now = self._clock()
        expires = None if lifetime is None else now + lifetime
        token = UserToken(str(uuid.uuid4()), self._user.id, name, now, expires)
        self._store.add_token(token)
        return self._signer.sign(user_claims(token.id, token.user_id, now, expires), kid=0)

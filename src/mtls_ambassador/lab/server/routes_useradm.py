"""The HTTP side of useradm.

Source: Mender useradm, management API v1.
"""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.exchange import answer, empty, jwt, read_body, read_json
from mtls_ambassador.lab.server.godecode import DecodeError, Object, as_struct, decode
from mtls_ambassador.lab.server.records import UserToken, rfc3339
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.useradm import Useradm

_API = "/api/management/v1/useradm"


def useradm_routes(useradm: Useradm) -> list[BaseRoute]:
    """The routes of the service."""
    handlers = _Handlers(useradm)
    return [
        Route(f"{_API}/auth/login", handlers.login, methods=["POST"]),
        Route(f"{_API}/auth/logout", handlers.logout, methods=["POST"]),
        Route(f"{_API}/settings/tokens", handlers.create_token, methods=["POST"]),
        Route(f"{_API}/settings/tokens", handlers.tokens, methods=["GET"]),
        Route(f"{_API}/settings/tokens/{{token_id}}", handlers.delete_token, methods=["DELETE"]),
        Route(f"{_API}/users/{{user_id}}", handlers.user, methods=["GET"]),
    ]


class _Handlers:
    def __init__(self, useradm: Useradm) -> None:
        self._useradm = useradm

    async def login(self, request: Request) -> Response:
        body = await read_body(request)
        email, password = basic(request.headers.get("Authorization", ""))
        try:
            # a chunked body has to be JSON even when it is empty, as no Content-Length says so
            options = body or "transfer-encoding" in request.headers
            fields = as_struct(decode(body, stream=True)) if options else Object()
            no_expiry, code = fields.boolean("no_expiry"), fields.string("token2fa")
        except DecodeError as error:
            raise Refusal(400, error.what) from None
        return jwt(self._useradm.login(email, password, code=code, no_expiry=no_expiry))

    async def logout(self, request: Request) -> Response:
        token: UserToken = request.state.user_token
        self._useradm.delete_token(token.id)
        return empty(202)

    async def create_token(self, request: Request) -> Response:
        body = await read_json(request, "cannot parse request body as json")
        try:
            fields = as_struct(body)
            name, expires_in = fields.string("name"), fields.integer("expires_in")
        except DecodeError:
            raise Refusal(400, "cannot parse request body as json") from None
        return jwt(self._useradm.create_token(name, expires_in))

    async def tokens(self, _request: Request) -> Response:
        return answer([_token(token) for token in self._useradm.tokens()])

    async def delete_token(self, request: Request) -> Response:
        self._useradm.delete_token(request.path_params["token_id"])
        return empty(204)

    async def user(self, request: Request) -> Response:
        user = self._useradm.user()
        if request.path_params["user_id"] not in {"me", user.id}:
            raise Refusal(404, "user not found")
        login = {} if user.login is None else {"login_ts": user.login}
        return answer(
            {"id": user.id, "email": user.email, "created_ts": user.created, "updated_ts": user.created, **login}
        )


def basic(authorization: str) -> tuple[str, str]:
    """User and password of HTTP Basic authentication (RFC 7617).

    Raises:
        Refusal: 401, the header is missing or malformed.
    """
    scheme, _, encoded = authorization.partition(" ")
    try:
        credentials = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        credentials = ""
    user, colon, password = credentials.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise Refusal(401, "invalid or missing auth header")
    return user, password


def _token(token: UserToken) -> dict[str, object]:
    ends = {} if token.expires is None else {"expiration_date": rfc3339(token.expires)}
    used = {} if token.last_used is None else {"last_used": rfc3339(token.last_used)}
    return {"id": token.id, "name": token.name, **used, **ends, "created_ts": rfc3339(token.issued)}

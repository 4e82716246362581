"""What stands before the services: request ids, the record of calls, injected faults, the check of tokens.

In the real composition the entry proxy asks deviceauth or useradm about every call before it reaches a service, so a
bad token is a 401 even where there is no route. Source: Mender Server, docker-compose.yml (forward-auth of traefik).
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mtls_ambassador.lab.server.devauth import Devauth
from mtls_ambassador.lab.server.exchange import error_body
from mtls_ambassador.lab.server.faults import Effect
from mtls_ambassador.lab.server.records import LabCall
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.settings import Switches
from mtls_ambassador.lab.server.useradm import Useradm

_REQUEST_ID = "X-MEN-RequestID"
_BEGINS = {"http.response.start", "websocket.http.response.start", "websocket.accept"}
# authentication needs no token, a download link is signed by itself
_DEVICE_CALL = re.compile(r"/api/devices/v[0-9.]+/(?!authentication/|deployments/download(/|$))")
_USER_CALL = re.compile(r"/api/management/v[0-9.]+/(?!useradm/(auth|oauth2|oidc)/(?!logout$))")
_DEVAUTH = "/api/management/v2/devauth/"


class Gate:
    """The ASGI application around the services.

    Args:
        app: The services.
        devauth: Verifies device tokens; the device's id is left in `request.state.device_id`.
        useradm: Verifies user tokens; the token's record is left in `request.state.user_token`.
        switches: The user's role.
        fault: Gives, for method and path, what is to happen to a request.
        record: Is told of every answered call.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        devauth: Devauth,
        useradm: Useradm,
        switches: Switches,
        fault: Callable[[str, str], Effect],
        record: Callable[[LabCall], None],
    ) -> None:
        self._app = app
        self._devauth = devauth
        self._useradm = useradm
        self._switches = switches
        self._fault = fault
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket: that begins as a request, and may be refused as one."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get(_REQUEST_ID) or str(uuid.uuid4())
        method, path = scope.get("method", "GET"), scope["path"]
        scope["state"] = {"request_id": request_id}

        async def answered(message: Message) -> None:
            if message["type"] in _BEGINS:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)[_REQUEST_ID] = request_id
                query = scope["query_string"].decode("latin-1")
                self._record(LabCall(method, f"{path}?{query}" if query else path, message.get("status", 101)))
            await send(message)

        effect = self._fault(method, path)
        await asyncio.sleep(effect.latency)
        if effect.status is not None:
            retry = {} if effect.retry_after is None else {"Retry-After": str(effect.retry_after)}
            await _error(effect.status, effect.text, request_id, retry)(scope, receive, answered)
            return
        try:
            self._check(scope, headers.get("Authorization", ""))
        except Refusal as refusal:
            challenge = {"WWW-Authenticate": 'Bearer realm="ManagementJWT"'} if refusal.status == 401 else {}
            await _error(refusal.status, refusal.what, request_id, challenge)(scope, receive, answered)
            return
        await self._app(scope, receive, answered)

    def _check(self, scope: Scope, authorization: str) -> None:
        """Verify the token where the path needs one."""
        method, path = scope.get("method", "GET"), scope["path"]
        if _DEVICE_CALL.match(path):
            scope["state"]["device_id"] = self._devauth.verify(authorization)
        elif _USER_CALL.match(path):
            scope["state"]["user_token"] = self._useradm.verify(authorization)
            preauthorization = (method, path) == ("POST", f"{_DEVAUTH}devices")
            if self._switches.role == "preauthorize-only" and path.startswith(_DEVAUTH) and not preauthorization:
                raise Refusal(403, "unauthorized")


def _error(status: int, text: str, request_id: str, headers: dict[str, str]) -> Response:
    return Response(
        error_body(text, request_id), status, {"Content-Type": "application/json; charset=utf-8", **headers}
    )

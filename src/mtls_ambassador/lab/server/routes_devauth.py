"""The HTTP side of deviceauth.

Source: Mender deviceauth, devices API v1 and management API v2.
"""

from __future__ import annotations

import json

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.devauth import Devauth, DeviceExists
from mtls_ambassador.lab.server.exchange import Page, add_links, answer, empty, jwt, page, read_body, read_json
from mtls_ambassador.lab.server.godecode import DecodeError, Json, Object, as_struct, decode
from mtls_ambassador.lab.server.identity import from_map, from_text
from mtls_ambassador.lab.server.keys import KeyRefused, SignatureRefused, parse, verify
from mtls_ambassador.lab.server.records import AuthSet, Device
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.rules import ACCEPTED, DEVICE_STATUSES, PENDING, REJECTED

_AUTH_REQUESTS = "/api/devices/v1/authentication/auth_requests"
_API = "/api/management/v2/devauth"


def devauth_routes(devauth: Devauth) -> list[BaseRoute]:
    """The routes of the service."""
    handlers = _Handlers(devauth)
    one_set = f"{_API}/devices/{{device_id}}/auth/{{set_id}}"
    return [
        Route(_AUTH_REQUESTS, handlers.auth_request, methods=["POST"]),
        Route(f"{_API}/devices", handlers.preauthorize, methods=["POST"]),
        Route(f"{_API}/devices", handlers.devices, methods=["GET"]),
        Route(f"{_API}/devices/search", handlers.search, methods=["POST"]),
        Route(f"{_API}/devices/count", handlers.count, methods=["GET"]),
        Route(f"{_API}/devices/{{device_id}}", handlers.device, methods=["GET"]),
        Route(f"{_API}/devices/{{device_id}}", handlers.decommission, methods=["DELETE"]),
        Route(one_set, handlers.delete_set, methods=["DELETE"]),
        Route(f"{one_set}/status", handlers.status, methods=["GET"]),
        Route(f"{one_set}/status", handlers.set_status, methods=["PUT"]),
        Route(f"{_API}/limits/{{name}}", handlers.limit, methods=["GET"]),
        Route(f"{_API}/tokens/{{token_id}}", handlers.revoke, methods=["DELETE"]),
    ]


class _Handlers:
    def __init__(self, devauth: Devauth) -> None:
        self._devauth = devauth

    async def auth_request(self, request: Request) -> Response:
        """Check in the order of the real server: JSON, fields, key, identity, signature, state."""
        body = await read_body(request)
        try:
            fields = as_struct(decode(body))
            id_data, pubkey = fields.string("id_data"), fields.string("pubkey")
            fields.string("tenant_token")
        except DecodeError as error:
            raise Refusal(400, f"failed to decode auth request: {error.what}") from None
        if not id_data:
            raise Refusal(400, "invalid auth request: id_data must be provided")
        if not pubkey:
            raise Refusal(400, "invalid auth request: pubkey must be provided")
        try:
            key = parse(pubkey)
            identity = from_text(id_data)
        except (KeyRefused, DecodeError) as error:
            raise Refusal(400, f"invalid auth request: {error.what}") from None
        signature = request.headers.get("X-MEN-Signature", "")
        if not signature:
            raise Refusal(400, "missing request signature header")
        try:
            verify(key.key, signature, body)
        except SignatureRefused as error:
            raise Refusal(401, error.what) from None
        return jwt(self._devauth.submit(identity, key.pem))

    async def preauthorize(self, request: Request) -> Response:
        failure = "failed to decode preauth request"
        body = await read_json(request, failure)
        try:
            fields = as_struct(body)
            data, pubkey = fields.mapping("identity_data"), fields.string("pubkey")
            force = fields.boolean("force")
            if not data:
                raise Refusal(400, f"{failure}: identity_data: cannot be blank.")
            if not pubkey:
                raise Refusal(400, f"{failure}: pubkey: cannot be blank.")
            key = parse(pubkey)
        except (KeyRefused, DecodeError) as error:
            raise Refusal(400, f"{failure}: {error.what}") from None
        try:
            device_id = self._devauth.preauthorize(from_map(data), key.pem, force=force)
        except DeviceExists as conflict:
            return answer(_device(conflict.device, None), 409)
        response = empty(201)
        response.headers["Location"] = f"devices/{device_id}"
        return response

    async def devices(self, request: Request) -> Response:
        asked = page(request.query_params)
        statuses = request.query_params.getlist("status")
        if not DEVICE_STATUSES.issuperset(statuses):
            raise Refusal(400, "filter status must be one of: accepted, pending, rejected, preauthorized or noauth")
        return self._list(request, asked, statuses, request.query_params.getlist("id"))

    async def search(self, request: Request) -> Response:
        asked = page(request.query_params)
        media_type = request.headers.get("content-type", "")
        if media_type.lower() == "application/x-www-form-urlencoded":
            form = QueryParams((await read_body(request, media_type=media_type.lower())).decode("latin-1"))
            return self._list(request, asked, form.getlist("status"), form.getlist("id"))
        body = await read_json(request, "api: malformed request body")
        if media_type.lower() not in {"", "application/json"}:  # not even with a charset
            raise Refusal(415, f"Content-Type '{media_type}' not supported")
        try:
            fields = as_struct(body)
        except DecodeError as error:
            raise Refusal(400, f"api: malformed request body: {error.what}") from None
        return self._list(request, asked, _texts(fields, "status"), _texts(fields, "id"))

    async def count(self, request: Request) -> Response:
        status = request.query_params.get("status", "")
        if status and status not in DEVICE_STATUSES:
            raise Refusal(400, "status must be one of: pending, accepted, rejected, preauthorized, noauth")
        return answer({"count": self._devauth.store.count(status)})

    async def device(self, request: Request) -> Response:
        device = self._devauth.device(request.path_params["device_id"])
        return answer(_device(device, self._devauth.store.sets_of(device.id)))

    async def decommission(self, request: Request) -> Response:
        self._devauth.decommission(request.path_params["device_id"])
        return empty(204)

    async def delete_set(self, request: Request) -> Response:
        self._devauth.delete_set(request.path_params["device_id"], request.path_params["set_id"])
        return empty(204)

    async def status(self, request: Request) -> Response:
        return answer({"status": self._devauth.auth_set(request.path_params["set_id"]).status})

    async def set_status(self, request: Request) -> Response:
        failure = "failed to decode status data"
        body = await read_json(request, failure)
        try:
            status = as_struct(body).string("status")
        except DecodeError as error:
            raise Refusal(400, f"{failure}: {error.what}") from None
        if status not in {ACCEPTED, REJECTED, PENDING}:
            raise Refusal(400, "incorrect device status")
        self._devauth.set_status(request.path_params["device_id"], request.path_params["set_id"], status)
        return empty(204)

    async def limit(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != "max_devices":
            raise Refusal(400, f"unsupported limit {name}")
        limit = self._devauth.switches.max_devices
        return answer({"limit": -1 if limit is None else limit})

    async def revoke(self, request: Request) -> Response:
        self._devauth.revoke(request.path_params["token_id"])
        return empty(204)

    def _list(self, request: Request, asked: Page, statuses: list[str], ids: list[str]) -> Response:
        found = self._devauth.store.devices(statuses, ids, skip=asked.start, limit=asked.size + 1)
        shown = [_device(device, self._devauth.store.sets_of(device.id)) for device in found[: asked.size]]
        response = answer(shown)
        add_links(response, request, asked, more=len(found) > asked.size)
        return response


def _device(device: Device, sets: list[AuthSet] | None) -> dict[str, object]:
    """The Device object of the API; `sets` None: they were not loaded."""
    check_in = {} if device.check_in is None else {"check_in_time": device.check_in}
    return {
        "id": device.id,
        "identity_data": json.loads(device.identity, parse_int=float),
        "status": device.status,
        "decommissioning": device.decommissioning,
        "created_ts": device.created,
        "updated_ts": device.updated,
        "auth_sets": None if sets is None else [_auth_set(auth_set) for auth_set in sets],
        **check_in,
    }


def _auth_set(auth_set: AuthSet) -> dict[str, object]:
    return {
        "id": auth_set.id,
        "identity_data": json.loads(auth_set.identity, parse_int=float),
        "pubkey": auth_set.pubkey,
        "ts": auth_set.created,
        "status": auth_set.status,
    }


def _texts(fields: Object, name: str) -> list[str]:
    """A search field: a string, an array of strings, or null for no filter."""
    value: Json = fields.anything(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    texts = [item for item in values if isinstance(item, str)]
    if len(texts) != len(values):
        raise Refusal(400, f"api: malformed request body: invalid JSON type for '{name}': must be string or []string")
    return texts

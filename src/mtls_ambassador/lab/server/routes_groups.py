"""The HTTP side of groups.

Source: Mender inventory, management API v1.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.exchange import add_links, answer, empty, page, read_json
from mtls_ambassador.lab.server.godecode import DecodeError, as_struct
from mtls_ambassador.lab.server.groups import Changed, Groups
from mtls_ambassador.lab.server.refusals import Refusal

_API = "/api/management/v1/inventory"


def groups_routes(groups: Groups) -> list[BaseRoute]:
    """The routes of groups."""
    handlers = _Handlers(groups)
    one, members = f"{_API}/devices/{{device_id}}/group", f"{_API}/groups/{{name}}/devices"
    return [
        Route(one, handlers.group, methods=["GET"]),
        Route(one, handlers.put, methods=["PUT"]),
        Route(f"{one}/{{name}}", handlers.take, methods=["DELETE"]),
        Route(f"{_API}/groups", handlers.groups, methods=["GET"]),
        Route(f"{_API}/groups/{{name}}", handlers.dissolve, methods=["DELETE"]),
        Route(members, handlers.members, methods=["GET"]),
        Route(members, handlers.join, methods=["PATCH"]),
        Route(members, handlers.leave, methods=["DELETE"]),
    ]


class _Handlers:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def group(self, request: Request) -> Response:
        return answer({"group": self._groups.of(request.path_params["device_id"])})

    async def put(self, request: Request) -> Response:
        failure = "failed to decode device group data"
        body = await read_json(request, failure)
        try:
            name = as_struct(body).string("group")
        except DecodeError as error:
            raise Refusal(400, f"{failure}: {error.what}") from None
        self._groups.put(request.path_params["device_id"], name)
        return empty(204)

    async def take(self, request: Request) -> Response:
        self._groups.take(request.path_params["device_id"], request.path_params["name"])
        return empty(204)

    async def groups(self, request: Request) -> Response:
        return answer(self._groups.names(request.query_params.get("status", "")))

    async def dissolve(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _answer(self._groups.leave(self._groups.members(name), name))

    async def members(self, request: Request) -> Response:
        asked = page(request.query_params)
        found = self._groups.members(request.path_params["name"])
        if not found:
            raise Refusal(404, "group not found")
        response = answer(found[asked.start : asked.start + asked.size])
        add_links(response, request, asked, total=len(found))
        response.headers["X-Total-Count"] = str(len(found))
        return response

    async def join(self, request: Request) -> Response:
        return _answer(self._groups.join(await _devices(request), request.path_params["name"]))

    async def leave(self, request: Request) -> Response:
        return _answer(self._groups.leave(await _devices(request), request.path_params["name"]))


async def _devices(request: Request) -> list[str]:
    """The device ids in a body.

    Raises:
        Refusal: 400, it is no array of strings, or empty.
    """
    failure = "invalid payload schema"
    body = await read_json(request, failure)
    found = [item for item in body if isinstance(item, str)] if isinstance(body, list) else []
    if not isinstance(body, list) or len(found) != len(body):
        raise Refusal(400, f"{failure}: must be an array of strings")
    if not found:
        raise Refusal(400, "no device IDs present in payload")
    return found


def _answer(changed: Changed) -> Response:
    return answer({"updated_count": changed.updated, "matched_count": changed.matched})

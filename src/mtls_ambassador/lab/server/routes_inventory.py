"""The HTTP side of inventory.

Source: Mender inventory, devices API v1, management API v1 and v2.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.exchange import add_links, answer, empty, page, read_json
from mtls_ambassador.lab.server.groups import GROUP
from mtls_ambassador.lab.server.inventory import SYSTEM, Inventory, InventoryDevice
from mtls_ambassador.lab.server.inventory_query import (
    Predicate,
    in_order,
    parse_attributes,
    parse_search,
    query_order,
    query_predicate,
)
from mtls_ambassador.lab.server.refusals import Refusal

# The entry proxy rewrites every path below to the one of attributes, so the tail does not matter.
_DEVICES = "/api/devices/v1/inventory/{tail:path}"
_MANAGEMENT_V1 = "/api/management/v1/inventory/devices"
_SEARCH = "/api/management/v2/inventory/filters/search"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def inventory_routes(inventory: Inventory) -> list[BaseRoute]:
    """The routes of the service."""
    handlers = _Handlers(inventory)
    return [
        Route(_DEVICES, handlers.report, methods=["PATCH", "PUT"]),
        Route(_MANAGEMENT_V1, handlers.devices, methods=["GET"]),
        Route(f"{_MANAGEMENT_V1}/{{device_id}}", handlers.device, methods=["GET"]),
        Route(_SEARCH, handlers.search, methods=["POST"]),
    ]


class _Handlers:
    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def report(self, request: Request) -> Response:
        attributes = parse_attributes(await read_json(request, "failed to decode request body"))
        self._inventory.report(request.state.device_id, attributes, replace=request.method == "PUT")
        return empty(200)

    async def devices(self, request: Request) -> Response:
        query = request.query_params
        asked = page(query)
        has_group = query.get("has_group", "")
        if has_group and has_group not in _TRUE | _FALSE:
            raise Refusal(400, f'invalid has_group query: "{has_group}"')
        order = query_order(query.get("sort", ""))
        predicates = [
            query_predicate(name, query[name])
            for name in query
            if name not in {"page", "per_page", "sort", "has_group", "group"}
        ]
        if has_group:
            predicates.append(Predicate(SYSTEM, GROUP, "$exists", has_group in _TRUE))
        if query.get("group"):
            predicates.append(Predicate(SYSTEM, GROUP, "$eq", query["group"]))
        found = [
            device for device in self._inventory.devices() if all(predicate.holds(device) for predicate in predicates)
        ]
        found = in_order(found, order)
        response = answer([_device(device) for device in found[asked.start : asked.start + asked.size]])
        add_links(response, request, asked, total=len(found))
        response.headers["X-Total-Count"] = str(len(found))
        return response

    async def device(self, request: Request) -> Response:
        device = self._inventory.device(request.path_params["device_id"])
        if device is None:
            raise Refusal(404, "Device not found")
        return answer(_device(device))

    async def search(self, request: Request) -> Response:
        search = parse_search(await read_json(request, "failed to decode request body"))
        found = search.choose(self._inventory.devices())
        start = (search.page - 1) * search.per_page
        response = answer([_device(device, search.shown) for device in found[start : start + search.per_page]])
        response.headers["X-Total-Count"] = str(len(found))
        return response


def _device(device: InventoryDevice, shown: Collection[tuple[str, str]] = ()) -> dict[str, object]:
    attributes = [
        {
            "name": item.name,
            **({} if item.description is None else {"description": item.description}),
            "value": item.value,
            "scope": item.scope,
        }
        for item in device.attributes
        if not shown or (item.scope, item.name) in shown
    ]
    return {"id": device.id, "attributes": attributes, "updated_ts": device.updated}

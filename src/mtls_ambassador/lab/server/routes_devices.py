"""What devices ask of the remaining services: deviceconfig.

A device's other calls have no route: the token is checked before, and the answer is 404, as from a server without the
add-on or the Enterprise edition. Source: Mender deviceconfig, devices API v1.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.configuration_store import ConfigurationStore
from mtls_ambassador.lab.server.exchange import answer, empty, read_json
from mtls_ambassador.lab.server.godecode import Object
from mtls_ambassador.lab.server.refusals import Refusal

_CONFIGURATION = "/api/devices/v1/deviceconfig/configuration"
_LONGEST = 4096  # bytes of a name or value


def deviceconfig_routes(store: ConfigurationStore) -> list[BaseRoute]:
    """The configuration that a device fetches and reports."""
    handlers = _Configuration(store)
    return [
        Route(_CONFIGURATION, handlers.fetch, methods=["GET"]),
        Route(_CONFIGURATION, handlers.report, methods=["PUT"]),
    ]


class _Configuration:
    def __init__(self, store: ConfigurationStore) -> None:
        self._store = store

    async def fetch(self, request: Request) -> Response:
        if self._store.reported(request.state.device_id) is None:
            raise Refusal(404, "device does not exist")
        return answer({})  # nobody can configure a device here

    async def report(self, request: Request) -> Response:
        body = await read_json(request, "malformed request body")
        if not isinstance(body, Object):
            raise Refusal(400, "malformed request body: not an object")
        found: dict[str, str] = {}
        for name, value in body.members:
            if not isinstance(value, str) or max(len(name.encode()), len(value.encode())) > _LONGEST:
                raise Refusal(400, f"invalid request body: values are strings of at most {_LONGEST} bytes")
            found[name] = value
        self._store.report(request.state.device_id, found)
        return empty(204)

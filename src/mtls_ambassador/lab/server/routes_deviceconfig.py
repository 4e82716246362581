"""The HTTP side of deviceconfig.

Source: Mender deviceconfig, devices API v1 and management API v1.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.deviceconfig import Deviceconfig, parse_configuration
from mtls_ambassador.lab.server.exchange import answer, empty, read_json
from mtls_ambassador.lab.server.godecode import DecodeError, as_struct
from mtls_ambassador.lab.server.refusals import Refusal

_DEVICES = "/api/devices/v1/deviceconfig/configuration"
_MANAGEMENT = "/api/management/v1/deviceconfig/configurations/device/{device_id}"
_MALFORMED = "malformed request body"


def deviceconfig_routes(deviceconfig: Deviceconfig) -> list[BaseRoute]:
    """The routes of devices and operators."""
    handlers = _Handlers(deviceconfig)
    return [
        Route(_DEVICES, handlers.fetch, methods=["GET"]),
        Route(_DEVICES, handlers.report, methods=["PUT"]),
        Route(_MANAGEMENT, handlers.configuration, methods=["GET"]),
        Route(_MANAGEMENT, handlers.configure, methods=["PUT"]),
        Route(f"{_MANAGEMENT}/deploy", handlers.deploy, methods=["POST"]),
    ]


class _Handlers:
    def __init__(self, deviceconfig: Deviceconfig) -> None:
        self._deviceconfig = deviceconfig

    async def fetch(self, request: Request) -> Response:
        return answer(dict(self._deviceconfig.configuration(request.state.device_id).configured))

    async def report(self, request: Request) -> Response:
        values = parse_configuration(await read_json(request, _MALFORMED))
        self._deviceconfig.report(request.state.device_id, values)
        return empty(204)

    async def configuration(self, request: Request) -> Response:
        found = self._deviceconfig.configuration(request.path_params["device_id"])
        others = {
            "deployment_id": found.deployment_id,
            "reported_ts": found.reported_at,
            "updated_ts": found.updated,
        }
        return answer(
            {
                "id": found.device_id,
                "configured": dict(found.configured),
                "reported": dict(found.reported),
                **{name: value for name, value in others.items() if value is not None},
            }
        )

    async def configure(self, request: Request) -> Response:
        values = parse_configuration(await read_json(request, _MALFORMED))
        self._deviceconfig.configure(request.path_params["device_id"], values)
        return empty(204)

    async def deploy(self, request: Request) -> Response:
        device_id = request.path_params["device_id"]
        self._deviceconfig.configuration(device_id)
        body = await read_json(request, _MALFORMED)
        try:
            fields = as_struct(body)
            # What the body may ask for, the open-source server takes and does not do.
            fields.integer("retries")
            fields.mapping("update_control_map")
        except DecodeError as error:
            raise Refusal(400, f"{_MALFORMED}: {error.what}") from None
        return answer({"deployment_id": await self._deviceconfig.deploy(device_id)})

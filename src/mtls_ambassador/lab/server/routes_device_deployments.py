"""The HTTP side of deployments, for devices.

Source: Mender deployments, devices API v1; of v2 only the update check, which the open-source server does not have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.deployments import CONFIGURATION_DOWNLOADS, Deployments, Provides
from mtls_ambassador.lab.server.exchange import answer, empty, read_json
from mtls_ambassador.lab.server.godecode import DecodeError, Json, Object, as_struct
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.routes_artifacts import shown_link

_API = "/api/devices/v1/deployments/device/deployments"
_NEXT_V2 = "/api/devices/v2/deployments/device/deployments/next"
_LONGEST = 4096  # bytes of a name
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def device_deployments_routes(deployments: Deployments, *, v2_next: bool) -> list[BaseRoute]:
    """The routes of devices.

    Args:
        deployments: The service.
        v2_next: Have the update check of API v2; without it devices find 404 and fall back to v1.
    """
    handlers = _Handlers(deployments)
    configuration = f"{CONFIGURATION_DOWNLOADS}/{{deployment_id}}/{{device_type:path}}/{{device_id}}"
    return [
        *([Route(_NEXT_V2, handlers.next_v2, methods=["POST"])] if v2_next else []),
        Route(f"{_API}/next", handlers.next_post, methods=["POST"]),
        Route(f"{_API}/next", handlers.next_get, methods=["GET"]),
        Route(f"{_API}/{{deployment_id}}/status", handlers.status, methods=["PUT"]),
        Route(f"{_API}/{{deployment_id}}/log", handlers.log, methods=["PUT"]),
        Route(configuration, handlers.configuration, methods=["GET"]),
    ]


class _Handlers:
    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    async def next_v2(self, request: Request) -> Response:
        body = await read_json(request, "invalid schema")
        try:
            provides = as_struct(body).mapping("device_provides") or {}
        except DecodeError as error:
            raise Refusal(400, f"invalid schema: {error.what}") from None
        texts = _texts(provides)
        name, kind = texts.pop("artifact_name", ""), texts.pop("device_type", "")
        return self._next(request, name, kind, texts)

    async def next_post(self, request: Request) -> Response:
        body = await read_json(request, "invalid schema")
        try:
            fields = as_struct(body)
            others = fields.mapping("artifact_provides") or {}
            name, kind = fields.string("artifact_name"), fields.string("device_type")
        except DecodeError as error:
            raise Refusal(400, f"invalid schema: {error.what}") from None
        return self._next(request, name, kind, _texts(others))

    async def next_get(self, request: Request) -> Response:
        query = request.query_params
        return self._next(request, query.get("artifact_name", ""), query.get("device_type", ""), {})

    async def status(self, request: Request) -> Response:
        body = await read_json(request, "invalid request body")
        try:
            fields = as_struct(body)
            status, substate = fields.string("status"), fields.string("substate")
        except DecodeError as error:
            raise Refusal(400, error.what) from None
        deployment_id = request.path_params["deployment_id"]
        self._deployments.report(request.state.device_id, deployment_id, status, substate)
        return empty(204)

    async def log(self, request: Request) -> Response:
        body = await read_json(request, "invalid request body")
        messages = as_messages(body)
        deployment_id = request.path_params["deployment_id"]
        self._deployments.keep_log(request.state.device_id, deployment_id, "".join(messages))
        return empty(204)

    async def configuration(self, request: Request) -> Response:
        """The artifact of a configuration, always whole: the real server does not know ranges of these."""
        self._deployments.artifacts.check_link(request.scope["path"], request.query_params)
        asked = request.path_params
        content = self._deployments.configuration_artifact(
            asked["deployment_id"], asked["device_type"], asked["device_id"]
        )
        disposition = {"Content-Disposition": 'attachment; filename="artifact.mender"'}
        return Response(content, headers=disposition, media_type="application/vnd.mender-artifact")

    def _next(self, request: Request, artifact_name: str, device_type: str, others: Mapping[str, str]) -> Response:
        for name, value in (("artifact_name", artifact_name), ("device_type", device_type)):
            if not value:
                raise Refusal(400, f"{name}: cannot be blank.")
            if len(value.encode()) > _LONGEST:
                raise Refusal(400, f"{name}: the length must be between 1 and {_LONGEST}.")
        provides = Provides(artifact_name, device_type, tuple(others.items()))
        found = self._deployments.next_for(request.state.device_id, provides)
        if found is None:
            return empty(204)
        return answer(
            {
                "id": found.deployment_id,
                "artifact": {
                    "id": found.artifact_id,
                    "artifact_name": found.artifact_name,
                    "source": shown_link(found.link, request),
                    "device_types_compatible": list(found.device_types),
                },
            }
        )


def as_messages(body: Json) -> list[str]:
    """The lines of a device's log, each with its newline.

    Raises:
        Refusal: 400, there are none, or one lacks its time, level or text.
    """
    try:
        messages = as_struct(body).anything("messages")
        lines = []
        for message in messages if isinstance(messages, list) else []:
            fields = message if isinstance(message, Object) else Object()
            time, level, text = (fields.string(name) for name in ("timestamp", "level", "message"))
            if not _RFC3339.fullmatch(time) or not level or not text:
                raise Refusal(400, "invalid log message")
            lines.append(f"{time} {level}: {text}\n")
    except DecodeError as error:
        raise Refusal(400, error.what) from None
    if not lines:
        raise Refusal(400, "no messages: invalid deployment log")
    return lines


def _texts(provides: Mapping[str, object]) -> dict[str, str]:
    """Provides as Go's map[string]string has them.

    Raises:
        Refusal: 400, one of them is no string.
    """
    for name, value in provides.items():
        if not isinstance(value, str):
            raise Refusal(400, f"invalid schema: json: cannot unmarshal value of {name} into Go value of type string")
    return {name: str(value) for name, value in provides.items()}

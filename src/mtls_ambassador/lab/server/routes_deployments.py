"""The HTTP side of deployments, for operators.

Source: Mender deployments, management API v1.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.artifacts import check_uuid
from mtls_ambassador.lab.server.deployment_records import Deployment, DeviceDeployment
from mtls_ambassador.lab.server.deployment_rules import ABORTED, ACTIVE, FINAL
from mtls_ambassador.lab.server.deployments import Deployments
from mtls_ambassador.lab.server.exchange import add_links, answer, empty, page, read_json
from mtls_ambassador.lab.server.godecode import DecodeError, as_struct
from mtls_ambassador.lab.server.refusals import Refusal

_API = "/api/management/v1/deployments/deployments"


def deployments_routes(deployments: Deployments) -> list[BaseRoute]:
    """The routes of operators."""
    handlers = _Handlers(deployments)
    one = f"{_API}/{{deployment_id}}"
    return [
        Route(_API, handlers.create, methods=["POST"]),
        Route(_API, handlers.deployments, methods=["GET"]),
        Route(f"{_API}/group/{{group}}", handlers.create, methods=["POST"]),
        Route(one, handlers.deployment, methods=["GET"]),
        Route(f"{one}/status", handlers.abort, methods=["PUT"]),
        Route(f"{one}/statistics", handlers.statistics, methods=["GET"]),
        Route(f"{one}/devices", handlers.devices, methods=["GET"]),
        Route(f"{one}/devices/list", handlers.devices_page, methods=["GET"]),
        Route(f"{one}/device_list", handlers.device_list, methods=["GET"]),
        Route(f"{one}/devices/{{device_id}}/log", handlers.log, methods=["GET"]),
    ]


class _Handlers:
    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    async def create(self, request: Request) -> Response:
        failure = "Validating request body"
        body = await read_json(request, failure)
        try:
            fields = as_struct(body)
            given = fields.anything("devices")
            devices = [] if given is None else given
            if not isinstance(devices, list) or not all(isinstance(item, str) for item in devices):
                raise Refusal(400, f"{failure}: devices: must be an array of strings")
            deployment_id = self._deployments.create(
                fields.string("name"),
                fields.string("artifact_name"),
                [str(item) for item in devices],
                group=request.path_params.get("group"),
                all_devices=fields.boolean("all_devices"),
                force_installation=fields.boolean("force_installation"),
            )
        except DecodeError as error:
            raise Refusal(400, f"{failure}: {error.what}") from None
        response = empty(201)
        response.headers["Location"] = f"{_API}/{deployment_id}"
        return response

    async def deployments(self, request: Request) -> Response:
        asked = page(request.query_params)
        query = request.query_params
        status, search, sort = query.get("status", ""), query.get("search", "").lower(), query.get("sort", "desc")
        kind = query.get("type", "")
        if status not in {"", "pending", "inprogress", "finished", "aborted"}:
            raise Refusal(400, f"unknown status {status}")
        if kind not in {"", "software", "configuration"}:
            raise Refusal(400, f"unknown deployment type {kind}")
        if sort.lower() not in {"asc", "desc"}:
            raise Refusal(400, 'invalid form value: must be one of "asc" or "desc"')
        found = [
            item
            for item in self._deployments.store.deployments()
            if search in f"{item.name}\n{item.artifact_name}".lower()
            and kind in {"", item.type}
            and self._has_status(item, status)
        ]
        if sort.lower() == "desc":
            found.reverse()
        response = answer([self._deployment(item) for item in found[asked.start : asked.start + asked.size]])
        add_links(response, request, asked, more=len(found) > asked.start + asked.size)
        response.headers["X-Total-Count"] = str(len(found))
        return response

    async def deployment(self, request: Request) -> Response:
        return answer(self._deployment(self._asked(request)))

    async def abort(self, request: Request) -> Response:
        deployment_id = _id(request)
        body = await read_json(request, "invalid request body")
        try:
            status = as_struct(body).string("status")
        except DecodeError as error:
            raise Refusal(400, error.what) from None
        if status not in {*ACTIVE, *FINAL}:
            raise Refusal(400, f"invalid status for device '{status}'")
        if status != ABORTED:
            raise Refusal(400, "Unexpected deployment status")
        self._deployments.abort(deployment_id)
        return empty(204)

    async def statistics(self, request: Request) -> Response:
        return answer(self._deployments.counts(self._asked(request)))

    async def devices(self, request: Request) -> Response:
        return answer([self._device(item) for item in self._on_devices(request)])

    async def devices_page(self, request: Request) -> Response:
        asked = page(request.query_params)
        status = request.query_params.get("status", "")
        if status not in {"", "active", "finished", "pause", *ACTIVE, *FINAL}:
            raise Refusal(400, "status: must be a valid value")
        found = [item for item in self._on_devices(request) if _matches(item.status, status)]
        response = answer([self._device(item) for item in found[asked.start : asked.start + asked.size]])
        add_links(response, request, asked, more=len(found) > asked.start + asked.size)
        response.headers["X-Total-Count"] = str(len(found))
        return response

    async def device_list(self, request: Request) -> Response:
        deployment = self._asked(request)
        return answer([item.device_id for item in self._deployments.store.on_devices(deployment.id)])

    async def log(self, request: Request) -> Response:
        log = self._deployments.store.log(request.path_params["deployment_id"], request.path_params["device_id"])
        if log is None:
            raise Refusal(404, "Resource not found")
        return PlainTextResponse(log)

    def _asked(self, request: Request) -> Deployment:
        return self._deployments.deployment(_id(request))

    def _on_devices(self, request: Request) -> list[DeviceDeployment]:
        """What there is of the devices that have asked already."""
        deployment = self._asked(request)
        return [item for item in self._deployments.store.on_devices(deployment.id) if item.request is not None]

    def _has_status(self, deployment: Deployment, status: str) -> bool:
        if not status:
            return True
        if status == "aborted":
            return self._deployments.counts(deployment)[ABORTED] > 0
        return self._deployments.status(deployment) == status

    def _deployment(self, deployment: Deployment) -> dict[str, object]:
        """The Deployment object of the API."""
        counts = self._deployments.counts(deployment)
        states = self._deployments.store.on_devices(deployment.id)
        artifacts = self._deployments.artifacts.store.artifacts(deployment.artifact_name)
        return {
            "name": deployment.name,
            "artifact_name": deployment.artifact_name,
            **({"force_installation": True} if deployment.force_installation else {}),
            "created": deployment.created,
            **({} if deployment.finished is None else {"finished": deployment.finished}),
            "id": deployment.id,
            **({"artifacts": [item.id for item in artifacts]} if artifacts else {}),
            "statistics": {"status": counts, "total_size": self._deployments.store.total_size(deployment.id)},
            "status": self._deployments.status(deployment),
            "device_count": sum(item.request is not None for item in states),
            "max_devices": len(states),
            **({} if deployment.group is None else {"groups": [deployment.group]}),
            "type": deployment.type,
            **({} if deployment.configuration is None else {"configuration": deployment.configuration}),
        }

    def _device(self, state: DeviceDeployment) -> dict[str, object]:
        """The object of a device in a deployment."""
        times = {"started": state.started, "finished": state.finished}
        artifact = self._deployments.artifacts.store.artifact(state.artifact_id) if state.artifact_id else None
        image = {} if artifact is None else {"image": {"id": artifact.id, "name": artifact.name, "size": artifact.size}}
        return {
            "created": state.created,
            **{name: time for name, time in times.items() if time is not None},
            "status": state.status,
            "id": state.device_id,
            **image,
            "log": state.has_log,
            **({"substate": state.substate} if state.substate else {}),
        }


def _id(request: Request) -> str:
    deployment_id = str(request.path_params["deployment_id"])
    check_uuid(deployment_id)
    return deployment_id


def _matches(status: str, wanted: str) -> bool:
    if wanted == "active":
        return status in ACTIVE
    if wanted == "finished":
        return status in FINAL
    if wanted == "pause":
        return status.startswith("pause_")
    return wanted in {"", status}

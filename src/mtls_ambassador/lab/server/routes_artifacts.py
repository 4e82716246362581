"""The HTTP side of artifacts: the management API, and the download by link.

Source: Mender deployments, management API v1.
"""

from __future__ import annotations

import asyncio
import dataclasses

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.artifact_file import ArtifactRefused, read_artifact
from mtls_ambassador.lab.server.artifacts import DOWNLOADS, ArtifactConflict, Artifacts, Link
from mtls_ambassador.lab.server.deployment_records import Artifact
from mtls_ambassador.lab.server.exchange import add_links, answer, empty, page
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.upload import receive_upload

_API = "/api/management/v1/deployments/artifacts"
_MANAGEMENT_LINK = 900.0  # seconds


def artifacts_routes(artifacts: Artifacts) -> list[BaseRoute]:
    """The routes of artifacts."""
    handlers = _Handlers(artifacts)
    return [
        Route(_API, handlers.upload, methods=["POST"]),
        Route(_API, handlers.artifacts, methods=["GET"]),
        Route(f"{_API}/list", handlers.page, methods=["GET"]),
        Route(f"{_API}/{{artifact_id}}", handlers.artifact, methods=["GET"]),
        Route(f"{_API}/{{artifact_id}}", handlers.delete, methods=["DELETE"]),
        Route(f"{_API}/{{artifact_id}}/download", handlers.link, methods=["GET"]),
        Route(f"{DOWNLOADS}/{{artifact_id}}", handlers.download, methods=["GET"]),
    ]


def shown_link(link: Link, request: Request) -> dict[str, object]:
    """A link as an answer to `request` has it: with the host that the peer knows us by.

    A proxy says that host in X-Forwarded-Host. The real server does so for the links of configuration deployments;
    those of artifacts name its object store.
    """
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    scheme = request.headers.get("x-forwarded-proto") or request.url.scheme
    return {"uri": f"{scheme}://{host}{link.uri}", "expire": link.expire, "method": "GET"}


class _Handlers:
    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def upload(self, request: Request) -> Response:
        with self._artifacts.store.upload() as path:
            fields = await receive_upload(request, path)
            try:
                contents = await asyncio.to_thread(read_artifact, path)
                artifact_id = self._artifacts.add(fields.artifact_id, fields.description, contents, path)
            except ArtifactRefused as error:
                raise Refusal(400, error.what) from None
            except ArtifactConflict as conflict:
                body = {
                    "error": conflict.what,
                    "metadata": conflict.metadata,
                    "request_id": str(request.state.request_id),
                }
                return answer(body, 409)
        response = empty(201)
        response.headers["Location"] = f"{_API}/{artifact_id}"
        return response

    async def artifacts(self, request: Request) -> Response:
        return answer([_artifact(item) for item in self._found(request)])

    async def page(self, request: Request) -> Response:
        asked = page(request.query_params)
        found = self._found(request)
        response = answer([_artifact(item) for item in found[asked.start : asked.start + asked.size]])
        add_links(response, request, asked, more=len(found) > asked.start + asked.size)
        response.headers["X-Total-Count"] = str(len(found))
        return response

    async def artifact(self, request: Request) -> Response:
        return answer(_artifact(self._artifacts.artifact(request.path_params["artifact_id"])))

    async def delete(self, request: Request) -> Response:
        self._artifacts.delete(request.path_params["artifact_id"])
        return empty(204)

    async def link(self, request: Request) -> Response:
        artifact = self._artifacts.artifact(request.path_params["artifact_id"])
        return answer(shown_link(self._artifacts.link(artifact, _MANAGEMENT_LINK), request))

    async def download(self, request: Request) -> Response:
        self._artifacts.check_link(request.scope["path"], request.query_params)
        artifact = self._artifacts.artifact(request.path_params["artifact_id"])
        return _ArtifactResponse(
            self._artifacts.store.file(artifact.id),
            media_type="application/vnd.mender-artifact",
            filename=f"{artifact.name}.mender",
        )

    def _found(self, request: Request) -> list[Artifact]:
        """The artifacts that the query asks for."""
        query = request.query_params
        name, description, device_type = query.get("name"), query.get("description"), query.get("device_type")
        return [
            item
            for item in self._artifacts.store.artifacts(name or None)
            if (not description or description.lower() in item.description.lower())
            and (not device_type or device_type in item.device_types)
        ]


class _ArtifactResponse(FileResponse):
    """A file, or the range of it that is asked for."""

    chunk_size = 256 * 1024


def _artifact(artifact: Artifact) -> dict[str, object]:
    """The Artifact object of the API."""
    fields = dataclasses.asdict(artifact)
    return {**{name: value for name, value in fields.items() if name != "shown"}, **artifact.shown}

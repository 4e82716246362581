"""The page for people, at the root: it asks for the user and password of the management API."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mtls_ambassador.lab.server.exchange import error
from mtls_ambassador.lab.server.page import HEADERS, Overview, render
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.routes_useradm import basic
from mtls_ambassador.lab.server.useradm import Useradm


def page_routes(useradm: Useradm, overview: Callable[[], Overview]) -> list[BaseRoute]:
    """The route of the page.

    Args:
        useradm: Checks who looks.
        overview: Gives what the page shows.
    """

    async def page(request: Request) -> Response:
        try:
            useradm.check_viewer(*basic(request.headers.get("Authorization", "")))
        except Refusal as refusal:
            response = error(request, refusal.status, refusal.what)
            if refusal.status == 401:
                response.headers["WWW-Authenticate"] = 'Basic realm="lab Mender Server", charset="UTF-8"'
            return response
        return Response(render(overview()), headers=dict(HEADERS))

    return [Route("/", page, methods=["GET"])]

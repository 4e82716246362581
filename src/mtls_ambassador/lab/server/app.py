"""The ASGI application of the services: their routes, and errors in Mender's form."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mtls_ambassador.lab.server.exchange import error
from mtls_ambassador.lab.server.refusals import Refusal


def build_app(routes: Sequence[BaseRoute], *, request_size_limit: int) -> Starlette:
    """An application with these routes; it expects the state that `Gate` sets.

    Args:
        routes: Those of all services.
        request_size_limit: Bytes that a request body may have.
    """
    app = Starlette(
        routes=routes,
        exception_handlers={Refusal: _refused, HTTPException: _no_route, Exception: _failed},
    )
    app.router.redirect_slashes = False
    app.state.request_size_limit = request_size_limit
    return app


async def _refused(request: Request, exception: Exception) -> Response:
    status = exception.status if isinstance(exception, Refusal) else 500
    return error(request, status, str(exception))


async def _no_route(request: Request, exception: Exception) -> Response:
    status = exception.status_code if isinstance(exception, HTTPException) else 500
    text = {404: "not found", 405: "method not allowed"}.get(status, str(exception))
    return error(request, status, text)


async def _failed(request: Request, _exception: Exception) -> Response:
    return error(request, 500, "internal error")

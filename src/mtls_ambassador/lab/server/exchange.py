"""The form of every request and answer of the Mender Server: bodies, errors, paging.

Source: Mender Server, conventions common to all services.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from mtls_ambassador.lab.server.godecode import DecodeError, Json, decode
from mtls_ambassador.lab.server.goencode import marshal
from mtls_ambassador.lab.server.refusals import Refusal

_JSON = "application/json; charset=utf-8"
_PER_PAGE_DEFAULT, _PER_PAGE_MAX = 20, 500


def answer(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(marshal(value), status, {"Content-Type": _JSON})


def empty(status: int) -> Response:
    """An answer without a body."""
    return Response(status_code=status)


def jwt(token: str) -> Response:
    """A raw token: no quotes, no newline."""
    return Response(token, headers={"Content-Type": "application/jwt"})


def error(request: HTTPConnection, status: int, text: str) -> Response:
    """An error answer; it carries the id of the request."""
    return Response(error_body(text, str(request.state.request_id)), status, {"Content-Type": _JSON})


def error_body(text: str, request_id: str) -> bytes:
    """The body of an error answer."""
    return marshal({"error": text, "request_id": request_id}).encode()


async def read_body(request: Request, *, media_type: str = "application/json") -> bytes:
    """The whole body, with Content-Length or chunked.

    The content type is checked only where a Content-Length announces a body, so a chunked one passes: as in the
    real server.

    Raises:
        Refusal: 413 the body is over the limit, 400 no content type, 415 another one.
    """
    limit: int = request.app.state.request_size_limit
    announced = int(request.headers.get("content-length") or 0)
    if announced > limit:
        raise Refusal(413, "http: request body too large")
    if announced > 0:
        _check_media_type(request.headers.get("content-type", ""), media_type)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise Refusal(413, "http: request body too large")
    return bytes(body)


async def read_json(request: Request, failure: str) -> Json:
    """The body as JSON, read as a stream: what follows the first value is ignored.

    Raises:
        Refusal: as `read_body`; 400 with `failure` and the reason where it is not JSON.
    """
    body = await read_body(request)
    try:
        return decode(body, stream=True)
    except DecodeError as reason:
        raise Refusal(400, f"{failure}: {reason.what}") from None


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for: `number` counts from 1."""

    number: int
    size: int

    @property
    def start(self) -> int:
        """How many elements come before the page."""
        return (self.number - 1) * self.size


def page(query: QueryParams) -> Page:
    """The paging parameters of a request.

    Raises:
        Refusal: 400, one of them is not a number or out of range.
    """
    size = _positive(query, "per_page", _PER_PAGE_DEFAULT)
    if size > _PER_PAGE_MAX:
        raise Refusal(400, f'parameter "per_page" above limit (max: {_PER_PAGE_MAX})')
    return Page(_positive(query, "page", 1), size)


def add_links(
    response: Response, request: Request, asked: Page, *, more: bool = False, total: int | None = None
) -> None:
    """Add the Link headers of a list: first, prev, next and, if the `total` is known, last."""
    targets = {"first": 1}
    if asked.number > 1:
        targets["prev"] = asked.number - 1
    last = (total - 1) // asked.size + 1 if total else None
    if asked.number < last if last else more:
        targets["next"] = asked.number + 1
    if last:
        targets["last"] = last
    for relation, number in targets.items():
        paging = {"page": str(number), "per_page": str(asked.size)}
        others = [(name, value) for name, value in request.query_params.multi_items() if name not in paging]
        query = urlencode(sorted([*others, *paging.items()], key=lambda item: item[0]))
        response.headers.append("Link", f'<{request.url.path}?{query}>; rel="{relation}"')


def _positive(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise Refusal(400, f'invalid {name} query: "{text}"')
    if int(text) < 1:
        raise Refusal(400, f"invalid {name} query: value must be a non-zero positive integer")
    return int(text)


def _check_media_type(value: str, wanted: str) -> None:
    if not re.match(r"\s*[^\s;/]+(/[^\s;/]+)?\s*(;|$)", value):
        raise Refusal(400, "Invalid value for Content-Type header: mime: no media type")
    if value.partition(";")[0].strip().lower() != wanted:
        raise Refusal(415, f"Bad Content-Type, expected '{wanted}'")

"""What the edge refuses by itself, it refuses in Mender's form: JSON with `error` and `request_id` and no more."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from tests.attempts import Attempt, attempt, lines_about, log_field, request
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEBSOCKET = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
CASES: dict[str, tuple[bytes, int, str]] = {
    "elsewhere": (request("GET", "/api/management/"), 404, "not found"),
    "another authentication path": (request("POST", f"{AUTH_REQUESTS}/x"), 404, "not found"),
    "twice encoded": (request("GET", "/api/devices/%252e/x"), 400, "bad request"),
    "encoded slash": (request("GET", "/api/devices/a%2fb"), 400, "bad request"),
    "too large": (request("POST", AUTH_REQUESTS, body=bytes(70000)), 413, "request body too large"),
    "header too large": (request("GET", INVENTORY, [("X", "y" * 70000)]), 431, "request headers too large"),
    "too many headers": (request("GET", INVENTORY, [("X", "y")] * 101), 431, "request headers too large"),
    "upgrade elsewhere": (request("GET", INVENTORY, WEBSOCKET), 403, "forbidden"),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as running:
        yield running


def in_menders_form(tried: Attempt) -> str:
    """Check the form; returns the text."""
    content = tried.answer.json()
    assert tried.answer.header("content-type") == "application/json; charset=utf-8"
    assert content.keys() == {"error", "request_id"}
    assert isinstance(content["error"], str)
    assert not re.search(r"envoy|rbac|upstream_|cluster|route", tried.data.decode(), re.IGNORECASE)
    return content["error"]


@pytest.mark.parametrize("name", CASES)
async def test_refusals(w: World, name: str) -> None:
    data, status, error = CASES[name]
    tried = await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")))
    assert tried.answer.status == status
    assert in_menders_form(tried) == error


@pytest.mark.parametrize("name", ["elsewhere", "another authentication path", "too large"])
async def test_the_log_has_the_same_request_id(w: World, name: str) -> None:
    tried = await attempt(w.edge.port, CASES[name][0], w.client_context(w.ca.device("dev-1")))
    await eventually(lambda: lines_about(w.log_text(), tried.address))
    (line,) = lines_about(w.log_text(), tried.address)
    assert log_field(line, "request_id") == tried.answer.json()["request_id"]
    assert log_field(line, "reason") == ("body_too_large" if name == "too large" else "path_not_allowed")


async def test_query_and_headers_are_not_logged(w: World) -> None:
    data = request("GET", "/elsewhere?token=secret-1", [("Authorization", "Bearer secret-2"), ("X", "secret-3")])
    tried = await attempt(w.edge.port, data, w.client_context(w.ca.device("dev-1")))
    await eventually(lambda: lines_about(w.log_text(), tried.address))
    assert "/elsewhere" in w.log_text()
    assert "secret-" not in w.log_text()

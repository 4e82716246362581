"""A device's other calls: tokens are checked first, and clients that poll get an answer they understand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.lab.server.conftest import Clock, Start
from tests.unit.lab.server.peer import Peer

DEPLOYMENTS = "/api/devices/v1/deployments/device/deployments"
NEXT_V2 = "/api/devices/v2/deployments/device/deployments/next"
CONFIGURATION = "/api/devices/v1/deviceconfig/configuration"
PROVIDES = {"artifact_name": "release-1", "device_type": "qemu"}


@pytest.fixture
async def token(peer: Peer) -> str:
    return await peer.accepted({"serial": "1"})


CALLS: list[tuple[str, str, Any, int]] = [
    ("POST", NEXT_V2, {"device_provides": PROVIDES}, 404),
    ("POST", f"{DEPLOYMENTS}/next", PROVIDES, 204),
    ("POST", f"{DEPLOYMENTS}/next", {"artifact_name": "release-1"}, 400),
    ("POST", f"{DEPLOYMENTS}/next", {**PROVIDES, "device_type": 1}, 400),
    ("POST", f"{DEPLOYMENTS}/next", {**PROVIDES, "device_type": "x" * 4097}, 400),
    ("POST", f"{DEPLOYMENTS}/next", b"x", 400),
    ("GET", f"{DEPLOYMENTS}/next?artifact_name=release-1&device_type=qemu", None, 204),
    ("GET", f"{DEPLOYMENTS}/next", None, 400),
    ("PUT", f"{DEPLOYMENTS}/next", {}, 405),
    ("PUT", f"{DEPLOYMENTS}/some-id/status", {"status": "success"}, 404),
    ("GET", "/api/devices/v2/deployments/device/deployments/some-id/update_control_map", None, 404),
    ("GET", "/api/devices/v1/deviceconnect/connect", None, 400),
    ("GET", CONFIGURATION, None, 404),
    ("PUT", CONFIGURATION, {"timezone": "UTC"}, 204),
    ("PUT", CONFIGURATION, {"timezone": 1}, 400),
    ("PUT", CONFIGURATION, {"timezone": "x" * 4097}, 400),
    ("PUT", CONFIGURATION, [], 400),
    ("POST", CONFIGURATION, {}, 405),
    ("GET", "/api/devices/v1/other", None, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), CALLS)
async def test_answers(peer: Peer, token: str, method: str, path: str, body: Any, status: int) -> None:
    found = await peer.call(method, path, body, token=token)
    assert found.status == status
    if status == 204:
        assert found.body == b""
    else:
        assert found.error
    if status == 405:
        assert found.error == "method not allowed"


@pytest.mark.parametrize(("method", "path", "body", "status"), CALLS)
async def test_a_bad_token_is_401_even_where_there_is_no_route(
    peer: Peer, method: str, path: str, body: Any, status: int
) -> None:
    for token in ("", "x", peer.token):
        assert (await peer.call(method, path, body, token=token)).status == 401


async def test_enterprise_routes_are_not_found(peer: Peer, token: str) -> None:
    assert (await peer.call("POST", NEXT_V2, {}, token=token)).error == "not found"


async def test_a_download_needs_no_token(peer: Peer) -> None:
    found = await peer.call("GET", "/api/devices/v1/deployments/download/configuration/x", token="")
    assert found.status == 404


async def test_a_configuration_that_was_reported_is_empty(peer: Peer, token: str) -> None:
    await peer.call("PUT", CONFIGURATION, {"timezone": "UTC"}, token=token)
    found = await peer.call("GET", CONFIGURATION, token=token)
    assert (found.status, found.json) == (200, {})


async def test_a_token_expires(start: Start, clock: Clock) -> None:
    async with start(device_token_lifetime=60.0) as peer:
        token = await peer.accepted({"serial": "1"})
        clock.now += 59.5
        assert await peer.alive(token)
        clock.now += 2
        assert not await peer.alive(token)


async def test_the_check_in_time_is_noted(peer: Peer, token: str, clock: Clock) -> None:
    clock.now += 60
    assert await peer.alive(token)
    (device,) = (await peer.call("GET", "/api/management/v2/devauth/devices")).json
    assert device["check_in_time"] == "2027-01-15T08:01:00.250Z"


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/none", 404, "not found"),
        ("POST", "/", 405, "method not allowed"),
        ("GET", "/api/devices/v1/authentication/other", 404, "not found"),
        ("GET", "/api/devices/v1/authentication/auth_requests", 405, "method not allowed"),
        ("GET", "/api/management/v1/useradm/auth/login", 405, "method not allowed"),
        ("POST", "/api/management/v1/useradm/auth/login/", 404, "not found"),
        ("GET", "/api/management/v1/other", 404, "not found"),
        ("PUT", "/api/management/v2/devauth/devices", 405, "method not allowed"),
        ("GET", "/api/internal/v1/devauth/tokens/verify", 404, "not found"),
    ],
)
async def test_unknown_routes_and_methods(peer: Peer, method: str, path: str, status: int, text: str) -> None:
    found = await peer.call(method, path)
    assert (found.status, found.error) == (status, text)


async def test_request_ids_are_taken_or_made(peer: Peer) -> None:
    given = await peer.call("GET", "/none", X_MEN_RequestID="abc")
    assert (given.headers["x-men-requestid"], given.json["request_id"]) == ("abc", "abc")
    made = [(await peer.call("GET", "/none")).headers["x-men-requestid"] for _ in range(2)]
    assert len(set(made)) == 2
    assert len(made[0]) == 36

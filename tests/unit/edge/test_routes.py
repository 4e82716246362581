"""`edge.routes`: which request goes where, decided as Envoy does it: the first route that matches."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mtls_ambassador.edge.routes import AUTH_TIMEOUT, CONNECT_PATH, edge_routes, egress_routes
from mtls_ambassador.wire import (
    ADDRESS_HEADER,
    AUTH_PATH,
    CERTIFICATE_HEADER,
    CHAIN_HEADER,
    FAILURE_HEADER,
    LARGEST_AUTH_BODY,
    REQUEST_ID_HEADER,
)
from tests.unit.edge.plans import CA, VARIANTS, everything_in, plan

Route = dict[str, Any]
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def routes(host: str = "named", **given: Any) -> list[Route]:
    (found,) = [item for item in edge_routes(plan(**given))["virtual_hosts"] if item["name"] == host]
    listed: list[Route] = found["routes"]
    return listed


def _matches(wanted: dict[str, Any], headers: dict[str, str]) -> bool:
    """Envoy's header matcher, as far as it is used here."""
    how, value = wanted["string_match"], headers.get(wanted["name"], "")
    if "safe_regex" in how:
        hit = re.fullmatch(how["safe_regex"]["regex"], value) is not None
    else:
        hit = bool((value.lower() if how.get("ignore_case") else value) == how["exact"])
    return hit is not bool(wanted.get("invert_match"))


def chosen(
    path: str, method: str = "GET", *, upgrade: str = "", authority: str = "edge.example.com", **given: Any
) -> Route:
    """The route for a normalised path."""
    headers = {":method": method, ":authority": authority, "upgrade": upgrade}
    for route in routes(**given):
        match = route["match"]
        if "prefix" in match:
            hit = path.startswith(match["prefix"])
        elif "path" in match:
            hit = path == match["path"]
        else:
            hit = re.fullmatch(match["safe_regex"]["regex"], path) is not None
        if hit and all(_matches(wanted, headers) for wanted in match.get("headers", ())):
            return route
    raise AssertionError(f"no route for {path}")


def goes_to(path: str, method: str = "GET", **given: Any) -> str | int:
    """The cluster, or the status that Envoy answers with."""
    route = chosen(path, method, **given)
    found: str | int = route["route"]["cluster"] if "route" in route else route["direct_response"]["status"]
    return found


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("/api/devices/v1/inventory/device/attributes", "mender"),
        ("/api/devices/v2/deployments/device/deployments/next", "mender"),
        (CONNECT_PATH, "mender"),
        ("/status", 200),
        ("/", 404),
        ("/status/", 404),
        ("/api/devices", 404),
        ("/api/management/v1/devauth/devices", 404),
        ("/api/internal/v1/devauth/tenants", 404),
        ("/API/devices/v1/inventory", 404),
    ],
)
def test_where_requests_go(path: str, to: str | int) -> None:
    assert goes_to(path) == to


@pytest.mark.parametrize(("method", "to"), [("POST", "admission"), ("GET", 404), ("PUT", 404), ("OPTIONS", 404)])
def test_auth_requests_are_posted(method: str, to: str | int) -> None:
    assert goes_to(AUTH_PATH, method) == to


@pytest.mark.parametrize(
    "path",
    [
        f"{AUTH_PATH}/",
        f"{AUTH_PATH};v=1",
        f"{AUTH_PATH}%20",
        AUTH_PATH.upper().replace("/API/DEVICES", "/api/devices"),
        "/api/devices/v2/authentication/auth_requests",
        "/api/devices/v1;a/authentication/auth_requests",
        "/api/devices/v1/authentication",
        "/api/devices/v1/authentication/",
        "/api/devices/V1/Authentication/anything",
        "/api/devices/v1/authenticationx",
    ],
)
@pytest.mark.parametrize("allowed", ["/api/devices/", "/api/devices/v1/authentication/"])
def test_nothing_else_of_the_authentication_api_is_reachable(path: str, allowed: str) -> None:
    assert goes_to(path, "POST", allowed_paths=[allowed]) == 404


@pytest.mark.parametrize(
    "path",
    [
        "/api/devices/%252e%252e/management",
        "/api/devices/v1/a%2525",
        "/api/devices/v1/a%00",
        "/api/devices/v1/a%2Fb",
        "/api/devices/v1/a%5cb",
        "/api/devices/v1/..;/management",
        "/api/devices/v1/.;a/management",
        "/status%00",
    ],
)
def test_what_others_may_read_differently_is_a_bad_request(path: str) -> None:
    assert goes_to(path) == 400


@pytest.mark.parametrize(
    "authority",
    [
        "edge.example.com",
        "edge.example.com:8443",
        "EDGE.example.com",
        "192.0.2.1:1",
        "[2001:db8::1]:8443",
        "line-1.edge.example.com",
        "Line_2.edge.example.com:1",
    ],
)
def test_a_host_is_a_name_or_address_and_maybe_a_port(authority: str) -> None:
    assert "route" in chosen("/api/devices/v1/inventory/x", authority=authority)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "a@b",
        "edge.example.com:b",
        "edge.example.com:1:2",
        "edge.example.com:123456",
        "edge.example.com@evil.test",
        "edgeXexample.com",
        "2001:db8::1",
        "[2001:db8::1",
        # Envoy takes these for names under *.edge.example.com.
        "evil.test,x.edge.example.com",
        "evil.test%2f.edge.example.com",
        "evil.test;.edge.example.com",
        "*.edge.example.com",
        "a.b.edge.example.com",
        "evil.test .edge.example.com",
        "\u00e4.edge.example.com",
        ".edge.example.com",
    ],
)
def test_any_other_host_is_a_bad_request(authority: str) -> None:
    assert chosen("/api/devices/v1/inventory/x", authority=authority)["direct_response"]["status"] == 400


def test_the_guard_stands_right_after_the_auth_route() -> None:
    listed = routes()
    auth = next(index for index, route in enumerate(listed) if route["match"].get("path") == AUTH_PATH)
    guard = listed[auth + 1]
    assert guard["direct_response"] == {"status": 404}
    assert "authentication" in guard["match"]["safe_regex"]["regex"]
    assert listed[-1] == {"match": {"prefix": "/"}, "direct_response": {"status": 404}}


@each_variant
@pytest.mark.parametrize("host", ["named", "any"])
def test_the_auth_route_alone_is_told_the_certificate(variant: str, host: str) -> None:
    listed = routes(host, **VARIANTS[variant])
    for route in listed:
        texts = str(route)
        is_auth = route["match"].get("path") == AUTH_PATH
        tells = CERTIFICATE_HEADER in texts or ADDRESS_HEADER in texts or "PEER_CERT" in texts
        assert tells == is_auth
        assert (CHAIN_HEADER in texts) == (is_auth and variant == "several_anchors")
    table = edge_routes(plan(**VARIANTS[variant]))
    outside = {**table, "virtual_hosts": [{**item, "routes": []} for item in table["virtual_hosts"]]}
    for elsewhere in (str(outside), str(egress_routes(plan(**VARIANTS[variant])))):
        assert CERTIFICATE_HEADER not in elsewhere
        assert ADDRESS_HEADER not in elsewhere
        assert "PEER" not in elsewhere


def test_the_certificate_header_replaces_what_a_device_might_send() -> None:
    added = {entry["header"]["key"]: entry for entry in chosen(AUTH_PATH, "POST")["request_headers_to_add"]}
    assert added[CERTIFICATE_HEADER]["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
    assert added[CERTIFICATE_HEADER]["header"]["value"] == "%DOWNSTREAM_PEER_CERT%"
    assert added[ADDRESS_HEADER]["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"


def test_mender_cannot_pretend_that_the_door_failed() -> None:
    assert FAILURE_HEADER in egress_routes(plan())["response_headers_to_remove"]


def test_the_body_of_an_auth_request_is_limited() -> None:
    (config,) = chosen(AUTH_PATH, "POST")["typed_per_filter_config"].values()
    assert config["buffer"]["max_request_bytes"] == LARGEST_AUTH_BODY


def test_a_thinking_admission_service_is_not_cut_off_early() -> None:
    route = chosen(AUTH_PATH, "POST")["route"]
    assert float(route["timeout"].removesuffix("s")) == AUTH_TIMEOUT
    assert float(route["idle_timeout"].removesuffix("s")) > AUTH_TIMEOUT
    # A body that trickles in is ended by neither.
    assert float(route["max_stream_duration"]["max_stream_duration"].removesuffix("s")) > AUTH_TIMEOUT


def test_downloads_take_the_time_they_take() -> None:
    assert chosen("/api/devices/v1/deployments/x")["route"]["timeout"] == "0s"


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket"])
def test_the_websocket_may_be_idle_longer(upgrade: str) -> None:
    route = chosen(CONNECT_PATH, upgrade=upgrade)["route"]
    assert route["upgrade_configs"] == [{"upgrade_type": "websocket"}]
    assert route["idle_timeout"] == "86400s"
    assert "upgrade_configs" not in chosen(CONNECT_PATH)["route"]
    assert "upgrade_configs" not in chosen("/api/devices/v1/inventory/x", upgrade="websocket")["route"]


def test_only_allowed_paths_pass() -> None:
    allowed = ["/api/devices/v1/inventory/", "/api/devices/v1/deployments/"]
    assert goes_to("/api/devices/v1/inventory/x", allowed_paths=allowed) == "mender"
    assert goes_to("/api/devices/v1/deployments/x", allowed_paths=allowed) == "mender"
    assert goes_to("/api/devices/v1/inventory", allowed_paths=allowed) == 404
    assert goes_to("/api/devices/v1/deviceconfig/x", allowed_paths=allowed) == 404
    assert goes_to(CONNECT_PATH, upgrade="websocket", allowed_paths=allowed) == 404
    assert goes_to(AUTH_PATH, "POST", allowed_paths=allowed) == "admission"


@pytest.mark.parametrize("prefix", ["/api/devices/v1/deviceconnect/", CONNECT_PATH, "/api/devices/v1/device"])
def test_the_websocket_passes_where_its_path_is_allowed(prefix: str) -> None:
    assert "upgrade_configs" in chosen(CONNECT_PATH, upgrade="websocket", allowed_paths=[prefix])["route"]


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
def test_the_status_is_only_read(method: str) -> None:
    assert goes_to("/status", method) == 404


@each_variant
def test_mender_hears_its_own_name(variant: str) -> None:
    wanted = {
        "http_backend": "mender:8080",
        "https_hosted": "hosted.mender.io",
        "https_address_with_own_ca": "10.0.0.5:8443",
        "insecure": "mender.example.com",
        "several_anchors": "hosted.mender.io",
        "bound_tokens": "mender.example.com",
    }[variant]
    found = [
        *everything_in(edge_routes(plan(**VARIANTS[variant]))),
        *everything_in(egress_routes(plan(**VARIANTS[variant]))),
    ]
    names = {
        item["host_rewrite_literal"] for item in found if isinstance(item, dict) and "host_rewrite_literal" in item
    }
    assert names == {wanted}


@each_variant
def test_a_devices_own_request_id_stays(variant: str) -> None:
    for route in routes(**VARIANTS[variant]):
        if "route" in route:
            (added,) = [e for e in route["request_headers_to_add"] if e["header"]["key"] == REQUEST_ID_HEADER]
            assert added["append_action"] == "ADD_IF_ABSENT"


def test_links_lead_back_to_the_name_the_device_used() -> None:
    table = edge_routes(plan())
    named, other = table["virtual_hosts"]
    assert table["ignore_port_in_host_matching"] is True
    assert named["domains"] == ["*.edge.example.com", "192.0.2.1", "[2001:db8::1]", "edge.example.com"]
    assert named["request_headers_to_add"][0]["header"] == {"key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%"}
    assert other["domains"] == ["*"]
    assert other["request_headers_to_add"][0]["header"] == {"key": "x-forwarded-host", "value": "edge.example.com"}
    assert named["routes"][1:] == other["routes"]  # before them: only a proper host may be repeated in links


def test_names_that_are_no_host_names_are_left_out() -> None:
    table = edge_routes(plan(server=CA.server("x", san=["DNS:EDGE.example.com", "DNS:edge.example.com", "DNS:a b%"])))
    assert table["virtual_hosts"][0]["domains"] == ["edge.example.com"]


def test_a_certificate_without_any_name_serves_too() -> None:
    (host,) = edge_routes(plan(server=CA.server("x", san=["URI:urn:x"])))["virtual_hosts"]
    assert host["name"] == "any"
    assert "request_headers_to_add" not in host


def test_a_wildcard_is_no_name_to_link_to() -> None:
    _, other = edge_routes(plan(server=CA.server("x", san=["DNS:*.example.com"])))["virtual_hosts"]
    assert "request_headers_to_add" not in other

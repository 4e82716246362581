"""`edge.token_binding`: no route to Mender carries a token that was not verified; without it nothing changes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mtls_ambassador.edge.clusters import MENDER
from mtls_ambassador.edge.listeners import edge_listener
from mtls_ambassador.edge.routes import CONNECT_PATH, edge_routes
from mtls_ambassador.edge.token_binding import filters, with_token, without_token
from tests.unit.edge.plans import JWKS, VARIANTS, everything_in, plan

BOUND = VARIANTS["bound_tokens"]
OTHERS = [name for name in VARIANTS if name != "bound_tokens"]
VERIFY, COMPARE = "envoy.filters.http.jwt_authn", "token-binding"


def http(**given: Any) -> dict[str, Any]:
    """The HTTP part of the device-facing listener."""
    (chain,) = edge_listener(plan(**given))["filter_chains"]
    (manager,) = chain["filters"]
    found: dict[str, Any] = manager["typed_config"]
    return found


def mender_routes(**given: Any) -> list[dict[str, Any]]:
    hosts = edge_routes(plan(**given))["virtual_hosts"]
    return [route for host in hosts for route in host["routes"] if route.get("route", {}).get("cluster") == MENDER]


def authorization(route: dict[str, Any]) -> str | None:
    """What the route makes of the Authorization header; None: it passes as it came."""
    for added in route.get("request_headers_to_add", []):
        if added["header"]["key"] == "authorization":
            assert added["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
            value: str = added["header"]["value"]
            return value
    return "" if "authorization" in route.get("request_headers_to_remove", []) else None


def test_every_route_to_mender_has_a_verified_token_or_none() -> None:
    found = mender_routes(**BOUND)
    assert len(found) == 8  # WebSocket, download, everything else and storage, for both virtual hosts
    for route in found:
        if authorization(route) == "":
            assert "typed_per_filter_config" not in route
            continue
        assert authorization(route) == f"Bearer %DYNAMIC_METADATA({VERIFY}:claims:mtk)%"
        assert route["typed_per_filter_config"][VERIFY]["requirement_name"] == "bound"
        (policy,) = route["typed_per_filter_config"][COMPARE]["rbac"]["rules"]["policies"].values()
        assert "sha256_peer_certificate_digest" in json.dumps(policy["condition"])


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ("/api/devices/v1/deployments/download", True),
        ("/api/devices/v1/deployments/download?x=1", True),
        ("/api/devices/v1/deployments/download/a/b?x=1", True),
        ("/api/devices/v1/deployments/download/configuration/x/y/z?x-men-signature=1", True),
        ("/api/devices/v2/deployments/download/a", True),
        ("/api/devices/v1/deployments/downloads", False),
        ("/api/devices/v1/deployments/device/deployments/next", False),
        ("/api/devices/v1/deployments/device/download/a", False),
        ("/api/devices/v1/inventory/deployments/download/a", False),
        ("/api/devices/v1/x/deployments/download/a", False),
        ("/api/devices/v1/inventory/x?/api/devices/v1/deployments/download/a", False),
        ("/api/devices/vx/deployments/download/a", False),
        ("/api/devices/V1/deployments/download/a", False),
        (CONNECT_PATH, False),
    ],
)
def test_only_links_to_artifacts_need_no_token(path: str, free: bool) -> None:
    for route in mender_routes(**BOUND):
        if route["match"].get("prefix") != "/api/devices/":
            continue
        matchers = route["match"].get("headers", [])
        if all(re.fullmatch(item["string_match"]["safe_regex"]["regex"], path) for item in matchers):
            assert (authorization(route) == "") is free
            break
    else:
        pytest.fail("no route")


def test_storage_is_read_without_a_token() -> None:
    stored = [route for route in mender_routes(**BOUND) if route["match"].get("prefix") == "/artifacts/"]
    assert [authorization(route) for route in stored] == ["", ""]


@pytest.mark.parametrize("variant", OTHERS)
def test_without_it_authorization_passes_as_it_came(variant: str) -> None:
    assert {authorization(route) for route in mender_routes(**VARIANTS[variant])} == {None}
    assert not {VERIFY, COMPARE} & {item["name"] for item in http(**VARIANTS[variant])["http_filters"]}
    assert "cookie" not in list(everything_in(http(**VARIANTS[variant])))


def test_refused_certificates_come_first() -> None:
    names = [item["name"] for item in http(**BOUND)["http_filters"]]
    assert names.index("not-devices") < names.index(VERIFY) < names.index(COMPARE)


def test_tokens_are_taken_from_the_authorization_header_only() -> None:
    verify, _ = filters(JWKS)
    ((issuer, provider),) = verify["typed_config"]["providers"].items()
    assert provider["issuer"] == issuer
    assert {place["name"] for place in provider["from_headers"]} == {"authorization"}
    assert not {"from_params", "from_cookies", "forward", "claim_to_headers"} & provider.keys()
    assert provider["require_expiration"] is True
    assert json.loads(provider["local_jwks"]["inline_string"]) == json.loads(JWKS)
    assert "bypass_cors_preflight" not in verify["typed_config"]


def test_cookies_are_removed_before_anything_looks_at_them() -> None:
    (extension,) = http(**BOUND)["early_header_mutation_extensions"]
    assert {"remove": "cookie"} in extension["typed_config"]["mutations"]


def test_both_refusals_are_401_in_the_same_words() -> None:
    first, second, certificate, *_ = http(**BOUND)["local_reply_config"]["mappers"]
    assert [first["status_code"], second["status_code"]] == [401, 401]
    assert first["body_format_override"] == second["body_format_override"]
    assert "rbac_access_denied" in str(certificate["filter"])  # broader: it must not come before them
    assert "status_code" not in certificate


def test_mender_can_be_asked_for_a_token_that_can_be_read() -> None:
    hosts = edge_routes(plan(**BOUND))["virtual_hosts"]
    for route in (route for host in hosts for route in host["routes"] if "admission" in str(route.get("route"))):
        assert route["request_headers_to_remove"] == ["accept-encoding"]


def test_a_route_keeps_what_it_had() -> None:
    header = {"header": {"key": "a", "value": "b"}}
    route = {"match": {"prefix": "/"}, "request_headers_to_add": [header], "typed_per_filter_config": {"x": {}}}
    kept = with_token(route)
    assert kept["match"] == route["match"]
    assert header in kept["request_headers_to_add"]
    assert "x" in kept["typed_per_filter_config"]
    assert without_token({"request_headers_to_remove": ["a"]})["request_headers_to_remove"] == ["a", "authorization"]
    assert route["request_headers_to_add"] == [header]

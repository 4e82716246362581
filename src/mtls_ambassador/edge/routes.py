"""Which request goes where. Routes never change while Envoy runs. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from mtls_ambassador.edge import token_binding
from mtls_ambassador.edge.clusters import ADMISSION, MENDER
from mtls_ambassador.edge.plan import EdgePlan
from mtls_ambassador.wire import (
    ADDRESS_HEADER,
    AUTH_PATH,
    CERTIFICATE_HEADER,
    CHAIN_HEADER,
    FAILURE_HEADER,
    LARGEST_AUTH_BODY,
    REQUEST_ID_HEADER,
)

Json = dict[str, Any]

CONNECT_PATH = "/api/devices/v1/deviceconnect/connect"
STATUS_BODY = '{"status":"ok"}'

AUTH_TIMEOUT = 60.0
"""Seconds that an auth request may take, management calls included."""

PASSING_IDLE = 300.0
"""Seconds that a request to Mender may be silent, in both directions."""

SOCKET_IDLE = 24 * 3600.0
"""The same of mender-connect's WebSocket.

Its ends have their own patience, a minute with pings, and the connection of one that went without a word is found by
TCP's keep-alive: this is for those that have none and are there still. A device that wants to hold connections gains
nothing by it: a byte an hour held them before, and how many there may be is limited as a whole.
"""

CHAIN_FILTER = "presented-chain"
"""Name of the HTTP filter that only the auth route turns on, and only where there are several trust anchors."""
_CHAIN_SCRIPT = f"""
function envoy_on_request(handle)
  local tls = handle:streamInfo():downstreamSslConnection()
  handle:headers():replace("{CHAIN_HEADER}", tls:urlEncodedPemEncodedPeerCertificateChain())
end
"""

_NAMED = "named"
_DOWNLOADS = r"/api/devices/v[0-9.]+/deployments/download([/?].*)?"
"""Links to artifacts, query included: they are signed themselves, and clients send no token with them."""
_LABEL = "[A-Za-z0-9_-]+"
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")


def edge_routes(plan: EdgePlan) -> Json:
    """The route table of the device-facing listener.

    Two virtual hosts with the same routes differ in `X-Forwarded-Host`: a device that used a name our certificate
    bears gets links with that very name and port; any other gets the certificate's first name.
    """
    domains = [domain for domain in map(_domain, plan.server_names) if domain]
    hosts: list[Json] = []
    if domains:
        named = _virtual_host(plan, _NAMED, domains, "%REQ(:AUTHORITY)%")
        hosts.append(named)
    first = next((d for d in domains if not d.startswith("*")), None)
    hosts.append(_virtual_host(plan, "any", ["*"], first))
    return {
        "name": "edge",
        "ignore_port_in_host_matching": True,
        "virtual_hosts": hosts,
        # The device's address as TCP has it: Envoy's own way would write this machine's for a peer on loopback.
        "request_headers_to_add": [_set_header("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")],
        # Ours, not Mender's.
        "request_headers_to_remove": ["x-request-id", "x-envoy-external-address", "x-envoy-internal"],
    }


def egress_routes(plan: EdgePlan) -> Json:
    """The route table of the control plane's own door to Mender."""
    return {
        "name": "egress",
        "virtual_hosts": [
            {
                "name": "mender",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"prefix": "/"},
                        "route": {
                            "cluster": MENDER,
                            "timeout": "30s",
                            "host_rewrite_literal": plan.backend.authority,
                        },
                    }
                ],
            }
        ],
        "request_headers_to_remove": ["x-envoy-internal", "x-request-id"],
        "response_headers_to_remove": [FAILURE_HEADER],  # only ours means something
    }


def _domain(name: str) -> str | None:
    """A certificate's name as Envoy writes a virtual host's domain; None for what is no host name."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.lower() if _HOST_NAME.fullmatch(name) else None
    return f"[{address}]" if address.version == 6 else str(address)


def _virtual_host(plan: EdgePlan, name: str, domains: list[str], forwarded_host: str | None) -> Json:
    host: Json = {"name": name, "domains": sorted(set(domains)), "routes": _device_routes(plan)}
    if name == _NAMED:
        host["routes"].insert(0, _odd_authority_route(host["domains"]))
    if forwarded_host is not None:
        host["request_headers_to_add"] = [_set_header("x-forwarded-host", forwarded_host)]
    return host


def _device_routes(plan: EdgePlan) -> list[Json]:
    return [
        # Twice encoded, or a segment of dots or nothing with a parameter: harmless to Envoy, but perhaps not to what
        # reads the path after it, if that decodes once more or drops `;parameters`.
        {
            "match": {"safe_regex": {"regex": r"(?i).*(%(25|00|2e|2f|5c)|/\.{0,2}(;|%3b)).*"}},
            "direct_response": {"status": 400},
        },
        _status_route(),
        _auth_route(plan),
        # Mender's entry proxy asks no token under /api/devices/v*/authentication: nothing else of it is reachable.
        {
            "match": {"safe_regex": {"regex": "(?i)^/api/devices/[^/]+/authentication.*"}},
            "direct_response": {"status": 404},
        },
        *([_connect_route(plan)] if any(CONNECT_PATH.startswith(prefix) for prefix in plan.allowed_paths) else []),
        *(route for prefix in plan.allowed_paths for route in _allowed_routes(plan, prefix)),
        *(_storage_route(plan, prefix) for prefix in plan.storage_paths),
        {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
    ]


def _odd_authority_route(domains: list[str]) -> Json:
    """Answers whoever comes here with more than a name of ours and maybe a port: Mender would find that in its links.

    Envoy matches a host up to its last colon, whatever follows, and lets a wildcard stand for any text at all; for
    certificates it is one label (RFC 9525 section 6.3).
    """
    authority = f"(?i)({'|'.join(map(_authority, domains))})(:[0-9]{{1,5}})?"
    matcher = {"name": ":authority", "string_match": {"safe_regex": {"regex": authority}}, "invert_match": True}
    return {"match": {"prefix": "/", "headers": [matcher]}, "direct_response": {"status": 400}}


def _authority(domain: str) -> str:
    """The hosts, without port, that a domain stands for, as a regular expression."""
    if domain.startswith("*"):
        return _LABEL + re.escape(domain.removeprefix("*"))
    return re.escape(domain)


def _status_route() -> Json:
    return {
        "match": {
            "path": "/status",
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        "direct_response": {"status": 200, "body": {"inline_string": STATUS_BODY}},
        "response_headers_to_add": [_set_header("content-type", "application/json")],
    }


def _auth_route(plan: EdgePlan) -> Json:
    """The one route that Python answers, and the only one that is told the certificate."""
    filters: Json = {
        "envoy.filters.http.buffer": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
            "buffer": {"max_request_bytes": LARGEST_AUTH_BODY},
        }
    }
    if plan.several_anchors:
        filters[CHAIN_FILTER] = {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute",
            "source_code": {"inline_string": _CHAIN_SCRIPT},
        }
    route: Json = {
        # Any other method falls to the guard below it.
        "match": {"path": AUTH_PATH, "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
        "route": {
            "cluster": ADMISSION,
            "timeout": f"{AUTH_TIMEOUT:.0f}s",
            # This timer also runs while the service thinks: it must not end before the timeout.
            "idle_timeout": f"{AUTH_TIMEOUT + 5:.0f}s",
            # Neither timer sees a body that trickles in.
            "max_stream_duration": {"max_stream_duration": f"{AUTH_TIMEOUT * 1.5:.0f}s"},
            "retry_policy": {"retry_on": "connect-failure,reset-before-request", "num_retries": 1},
        },
        "request_headers_to_add": [
            _set_header(CERTIFICATE_HEADER, "%DOWNSTREAM_PEER_CERT%"),
            _set_header(ADDRESS_HEADER, "%DOWNSTREAM_REMOTE_ADDRESS%"),
            _request_id(),
        ],
        "typed_per_filter_config": filters,
    }
    if plan.token_jwks:
        route["request_headers_to_remove"] = ["accept-encoding"]  # the token in the answer is to be read
    return route


def _connect_route(plan: EdgePlan) -> Json:
    """mender-connect's WebSocket, which may be idle for hours."""
    route: Json = {
        "match": {
            "path": CONNECT_PATH,
            "headers": [{"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}}],
        },
        "route": {
            "cluster": MENDER,
            "timeout": "0s",
            "idle_timeout": f"{SOCKET_IDLE:.0f}s",
            "host_rewrite_literal": plan.backend.authority,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
        },
        "request_headers_to_add": [_request_id()],
    }
    return token_binding.with_token(route) if plan.token_jwks else route


def _allowed_routes(plan: EdgePlan, prefix: str) -> list[Json]:
    route = _passing_route(plan, prefix)
    if not plan.token_jwks:
        return [route]
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": _DOWNLOADS}}}
    download = {**route, "match": {"prefix": prefix, "headers": [path]}}
    return [token_binding.without_token(download), token_binding.with_token(route)]


def _passing_route(plan: EdgePlan, prefix: str) -> Json:
    return {
        "match": {"prefix": prefix},
        "route": {
            "cluster": MENDER,
            "timeout": "0s",
            "idle_timeout": f"{PASSING_IDLE:.0f}s",
            "host_rewrite_literal": plan.backend.authority,
            "retry_policy": {"retry_on": "connect-failure,reset-before-request", "num_retries": 1},
        },
        "request_headers_to_add": [_request_id()],
    }


def _storage_route(plan: EdgePlan, prefix: str) -> Json:
    """Artifacts that Mender's host serves outside its API: to be read, nothing else."""
    route = _passing_route(plan, prefix)
    method = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    route["match"] = {"prefix": prefix, "headers": [method]}
    return token_binding.without_token(route) if plan.token_jwks else route


def _request_id() -> Json:
    """Let Mender's own log lines be matched with ours; a device's own value stays."""
    return {
        "header": {"key": REQUEST_ID_HEADER, "value": "%REQ(X-REQUEST-ID)%"},
        "append_action": "ADD_IF_ABSENT",
    }


def _set_header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}

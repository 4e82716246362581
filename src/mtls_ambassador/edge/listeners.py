"""Where Envoy listens: for devices, with mutual TLS; and for the control plane, on a Unix socket. Pure."""

from __future__ import annotations

from typing import Any, Literal

from mtls_ambassador.edge import access_log, secrets, token_binding
from mtls_ambassador.edge.plan import BUFFER, KEEPALIVE, EdgePlan
from mtls_ambassador.edge.routes import CHAIN_FILTER, edge_routes, egress_routes
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.wire import FAILURE_HEADER, LARGEST_AUTH_BODY

Json = dict[str, Any]

_TYPES = "type.googleapis.com"
_HTTP = f"{_TYPES}/envoy.extensions.filters.http"
_HCM = f"{_TYPES}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

STREAM_IDLE = 300.0
"""Seconds that a request may be silent, where its route says nothing else."""

# Envoy's own list lacks P-521 and Ed25519, so such clients would send no certificate at all.
_SIGNATURE_ALGORITHMS = [
    "ecdsa_secp256r1_sha256",
    "rsa_pss_rsae_sha256",
    "rsa_pkcs1_sha256",
    "ecdsa_secp384r1_sha384",
    "rsa_pss_rsae_sha384",
    "rsa_pkcs1_sha384",
    "ecdsa_secp521r1_sha512",
    "rsa_pss_rsae_sha512",
    "rsa_pkcs1_sha512",
    "ed25519",
]

_SPOOFABLE_PREFIXES = ("x-edge-", "x-envoy-", "x-forwarded-", "x-men-rbac-")
_SPOOFABLE_HEADERS = (
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-forwarded",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
)

_REPLY_TEXTS = {
    400: "bad request",
    403: "forbidden",
    404: RefusalReason.PATH_NOT_ALLOWED.value.public,
    408: "request timeout",
    413: RefusalReason.BODY_TOO_LARGE.value.public,
    426: "upgrade required",
    431: "request headers too large",
    503: "service unavailable",
    504: "upstream timeout",
}


def edge_listener(plan: EdgePlan) -> Json:
    """The device-facing listener: TLS with a required client certificate, then HTTP/1.0 and 1.1."""
    address: Json = {"address": plan.listen_host, "port_value": plan.listen_port}
    if plan.both_families:
        address["ipv4_compat"] = True
    return {
        "name": "edge",
        "address": {"socket_address": address},
        "traffic_direction": "INBOUND",  # so that draining leaves the egress listener open
        "per_connection_buffer_limit_bytes": BUFFER,
        "tcp_keepalive": dict(KEEPALIVE),
        "access_log": [access_log.handshake_failures()],
        "filter_chains": [
            {
                "transport_socket_connect_timeout": _seconds(plan.handshake_timeout),
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": _downstream_tls(plan),
                },
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _edge_http(plan),
                    }
                ],
            }
        ],
    }


def egress_listener(plan: EdgePlan) -> Json:
    """The control plane's door to Mender: plain HTTP on a socket only this user may open."""
    return {
        "name": "egress",
        "ignore_global_conn_limit": True,
        "address": {"pipe": {"path": str(plan.paths.egress), "mode": 0o600}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": _HCM,
                            "stat_prefix": "egress",
                            "codec_type": "HTTP1",
                            "server_header_transformation": "PASS_THROUGH",
                            "generate_request_id": False,
                            "route_config": egress_routes(plan),
                            "local_reply_config": {"mappers": [_mark_egress_failure()]},
                            "http_filters": [_router()],
                        },
                    }
                ]
            }
        ],
    }


def _seconds(number: float) -> str:
    """A duration as Envoy reads it: never with an exponent."""
    return f"{number:.3f}".rstrip("0").rstrip(".") + "s"


def _downstream_tls(plan: EdgePlan) -> Json:
    return {
        "@type": f"{_TYPES}/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        # No Mender client resumes sessions, and a resumed one would skip the check of the certificate's expiry.
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
        "common_tls_context": {
            "alpn_protocols": ["http/1.1"],
            "tls_params": {
                "tls_minimum_protocol_version": f"TLSv{plan.tls_min_version.replace('.', '_')}",
                "tls_maximum_protocol_version": "TLSv1_3",
                "ecdh_curves": ["X25519", "P-256", "P-384"],
                "signature_algorithms": _SIGNATURE_ALGORITHMS,
            },
            "tls_certificate_sds_secret_configs": [_file_secret(secrets.SERVER, str(plan.paths.server_secret))],
            "validation_context_sds_secret_config": _file_secret(secrets.DEVICE_TRUST, str(plan.paths.device_trust)),
        },
    }


def _file_secret(name: str, path: str) -> Json:
    return {
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "initial_fetch_timeout": "5s",
            "path_config_source": {"path": path, "watched_directory": {"path": path.rpartition("/")[0]}},
        },
    }


def _edge_http(plan: EdgePlan) -> Json:
    return {
        "@type": _HCM,
        "stat_prefix": "edge",
        "codec_type": "HTTP1",  # no Mender client speaks HTTP/2
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,
        "skip_xff_append": True,  # the routes write it
        "forward_client_cert_details": "SANITIZE",
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "early_header_mutation_extensions": [_strip_spoofable_headers(plan)],
        "common_http_protocol_options": {
            # The Go client keeps one connection and polls every half hour by default.
            "idle_timeout": "1900s",
            # TLS looks at a certificate when the connection is made: no connection lives on it for ever. Requests and
            # WebSockets in progress are not cut.
            "max_connection_duration": "86400s",
            "max_headers_count": 100,
            "headers_with_underscores_action": "DROP_HEADER",
        },
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "edge"},
        "max_request_headers_kb": 60,
        "request_headers_timeout": "30s",
        "stream_idle_timeout": _seconds(STREAM_IDLE),
        "access_log": [*access_log.requests(plan.access_log), _alarms()],
        "local_reply_config": {"mappers": _local_replies(plan)},
        "route_config": edge_routes(plan),
        "http_filters": [
            _peer_fingerprint(),
            _not_devices(plan),
            *(token_binding.filters(plan.token_jwks) if plan.token_jwks else []),
            {
                "name": "envoy.filters.http.buffer",
                "disabled": True,  # the auth route alone turns it on
                "typed_config": {"@type": f"{_HTTP}.buffer.v3.Buffer", "max_request_bytes": LARGEST_AUTH_BODY},
            },
            *([_presented_chain()] if plan.several_anchors else []),
            _router(),
        ],
    }


def _alarms() -> Json:
    """Of every certificate that is no device's, and every token that was copied or forged."""
    tokens = ", ".join(f'"{details}"' for details in token_binding.UNKNOWN_KEY)
    denied = "response.code_details.startsWith('rbac_access_denied')"
    return access_log.alarms(f"{denied} || response.code_details in [{tokens}]", token_binding.TOKEN_OF)


def _presented_chain() -> Json:
    """Lua, since there is no operator for the certificates that a client presents beside its own."""
    return {
        "name": CHAIN_FILTER,
        "disabled": True,  # the auth route alone turns it on
        "typed_config": {"@type": f"{_HTTP}.lua.v3.Lua"},
    }


def _strip_spoofable_headers(plan: EdgePlan) -> Json:
    """Remove what only a proxy may say, before anything looks at it.

    With bound tokens cookies too: Mender's services take a token from the cookie `JWT` where there is no other.
    """
    mutations: list[Json] = [
        {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}} for prefix in _SPOOFABLE_PREFIXES
    ]
    mutations += [{"remove": header} for header in _SPOOFABLE_HEADERS]
    if plan.token_jwks:
        mutations.append({"remove": "cookie"})
    return {
        "name": "strip",
        "typed_config": {
            "@type": f"{_TYPES}/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": mutations,
        },
    }


def _peer_fingerprint() -> Json:
    """Remember whose certificate it is where a matcher can read it, and no upstream ever sees it."""
    return {
        "name": "peer",
        "typed_config": {
            "@type": f"{_HTTP}.set_filter_state.v3.Config",
            "on_request_headers": [
                {
                    "object_key": "edge.peer",
                    "factory_key": "envoy.string",
                    "format_string": {"text_format_source": {"inline_string": "%DOWNSTREAM_PEER_FINGERPRINT_256%"}},
                }
            ],
        },
    }


def _not_devices(plan: EdgePlan) -> Json:
    """Refuse certificates that Envoy trusts though they are no device's: the CA's and the edge's own."""
    return {
        "name": "not-devices",
        "typed_config": {
            "@type": f"{_HTTP}.rbac.v3.RBAC",
            "matcher": {
                "matcher_tree": {
                    "input": {
                        "name": "peer",
                        "typed_config": {
                            "@type": f"{_TYPES}/envoy.extensions.matching.common_inputs.network.v3.FilterStateInput",
                            "key": "edge.peer",
                        },
                    },
                    "exact_match_map": {
                        "map": {
                            digest: _rbac_action(reason.label, "DENY")
                            for digest, reason in sorted(plan.not_devices.items())
                        }
                    },
                },
                "on_no_match": _rbac_action("device", "ALLOW"),
            },
        },
    }


def _rbac_action(name: str, action: str) -> Json:
    config = {"@type": f"{_TYPES}/envoy.config.rbac.v3.Action", "name": name, "action": action}
    return {"action": {"name": name, "typed_config": config}}


def _router() -> Json:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_HTTP}.router.v3.Router",
            "suppress_envoy_headers": True,
            "dynamic_stats": False,  # counters by status and host, which nobody reads and every request pays for
        },
    }


def _local_replies(plan: EdgePlan) -> list[Json]:
    """Errors that Envoy answers itself look like Mender's own. The first that fits counts."""
    replies = token_binding.replies() if plan.token_jwks else []
    replies.append(_refused_certificate_reply())
    for status, text in _REPLY_TEXTS.items():
        replies.append(_local_reply("EQ", status, text))
    replies.append(_local_reply("GE", 400, "request refused"))
    return replies


def _refused_certificate_reply() -> Json:
    return {
        "filter": access_log.expression_filter("response.code_details.startsWith('rbac_access_denied')"),
        "body_format_override": access_log.error_body(RefusalReason.CA_CERTIFICATE.value.public),
    }


def _local_reply(operator: Literal["EQ", "GE"], status: int, text: str) -> Json:
    return {"filter": access_log.status_filter(operator, status), "body_format_override": access_log.error_body(text)}


def _mark_egress_failure() -> Json:
    """Tell the control plane an answer of Envoy's own from one of Mender's."""
    return {
        "filter": access_log.status_filter("GE", 400),
        "headers_to_add": [
            {
                "header": {
                    "key": FAILURE_HEADER,
                    "value": "%RESPONSE_CODE_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON%",
                },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }

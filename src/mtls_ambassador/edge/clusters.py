"""Where Envoy sends requests: the one door to Mender, and the admission service. Pure."""

from __future__ import annotations

from typing import Any

from mtls_ambassador.edge.plan import BUFFER, KEEPALIVE, LARGEST_AUTH_QUEUE, EdgePlan

Json = dict[str, Any]

MENDER = "mender"
ADMISSION = "admission"

_TYPES = "type.googleapis.com"


def mender_cluster(plan: EdgePlan) -> Json:
    """The upstream Mender Server. Device traffic and management calls both leave through it."""
    cluster: Json = {
        "name": MENDER,
        "connect_timeout": "10s",
        "per_connection_buffer_limit_bytes": BUFFER,
        "upstream_connection_options": {"tcp_keepalive": dict(KEEPALIVE)},
        # Without this, a resolver that never answers keeps the listeners closed for more than a minute.
        "wait_for_warm_on_init": False,
        # Fleets are larger than Envoy's default of 1024; the limit that counts is on the device side.
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": plan.capacity.connections,
                    "max_pending_requests": plan.capacity.connections,
                    "max_requests": plan.capacity.connections,
                    "max_retries": 100,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                # Below the minute after which common balancers drop idle connections.
                "common_http_protocol_options": {"idle_timeout": "55s"},
                # HTTP/1.1, so that WebSocket upgrades pass.
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": MENDER,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "hostname": plan.backend.host,
                                "address": {
                                    "socket_address": {
                                        "address": plan.backend.host,
                                        "port_value": plan.backend.port,
                                    }
                                },
                            }
                        }
                    ]
                }
            ],
        },
    }
    if plan.backend.is_address:
        cluster["type"] = "STATIC"
    else:
        cluster["cluster_type"] = {
            "name": "envoy.cluster.dns",
            "typed_config": {
                "@type": f"{_TYPES}/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_lookup_family": "ALL",
                "respect_dns_ttl": True,
                "dns_refresh_rate": "60s",
                "all_addresses_in_single_endpoint": True,
            },
        }
    if plan.backend.tls:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": _upstream_tls(plan),
        }
    return cluster


def _upstream_tls(plan: EdgePlan) -> Json:
    validation: Json = {}
    if plan.upstream_trust is not None:
        validation = {"trusted_ca": {"filename": str(plan.upstream_trust)}}
        if plan.backend.is_address:
            # An address is neither sent as SNI (RFC 6066 section 3) nor matched as a DNS name.
            matcher = {"san_type": "IP_ADDRESS", "matcher": {"exact": plan.backend.host}}
            validation["match_typed_subject_alt_names"] = [matcher]
    tls: Json = {
        "@type": f"{_TYPES}/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["http/1.1"],
            # Envoy's default for clients ends at 1.2.
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
        },
    }
    if validation:
        tls["common_tls_context"]["validation_context"] = validation
    if not plan.backend.is_address:
        tls["auto_host_sni"] = True
        # `trusted_ca` alone would accept any name of that CA.
        tls["auto_sni_san_validation"] = plan.upstream_trust is not None
    return tls


def admission_cluster(plan: EdgePlan) -> Json:
    """The admission service on its Unix socket."""
    endpoint = {"address": {"pipe": {"path": str(plan.paths.admission)}}}
    return {
        "name": ADMISSION,
        "type": "STATIC",
        "connect_timeout": "2s",
        # Each connection is one auth request under way; the others wait here, where they cost no file descriptors.
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": plan.capacity.auth_requests,
                    "max_pending_requests": LARGEST_AUTH_QUEUE,
                    "max_requests": LARGEST_AUTH_QUEUE,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": "55s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {"cluster_name": ADMISSION, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }

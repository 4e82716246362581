"""Envoy's bootstrap: everything that stays for the life of one Envoy process. Pure."""

from __future__ import annotations

import json
from typing import Any

from mtls_ambassador.edge.clusters import admission_cluster, mender_cluster
from mtls_ambassador.edge.listeners import edge_listener, egress_listener
from mtls_ambassador.edge.plan import EdgePlan

Json = dict[str, Any]

_STATISTICS: list[Json] = [
    {"exact": "http.edge.downstream_cx_active"},
    {"exact": "http.edge.downstream_cx_http1_active"},
    {"exact": "http.edge.downstream_cx_tx_bytes_buffered"},
    {"exact": "http.edge.downstream_rq_active"},
    {"suffix": ".downstream_global_cx_overflow"},
    {"prefix": "sds."},
]
"""All that `edge.admin` asks for."""

# A regular expression is of names in the server's certificate, which may be many; Envoy takes none above 100 by itself.
_RUNTIME: Json = {"re2.max_program_size.error_level": 1_000_000}


def render_bootstrap(plan: EdgePlan) -> Json:
    """The whole bootstrap as JSON data.

    JSON, since Envoy's YAML reader takes plain `y`, `yes` and `on` for booleans. It holds no private key: on a parse
    error Envoy prints its whole configuration to the log.
    """
    return {
        "node": {"id": "mtls-ambassador", "cluster": "mtls-ambassador"},  # file SDS insists on both
        "admin": {
            "ignore_global_conn_limit": True,
            "address": {"pipe": {"path": str(plan.paths.envoy_admin), "mode": 0o600}},
        },
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _RUNTIME}]},
        "overload_manager": _overload_manager(plan),
        # Every request pays for the other hundreds, above all for histograms.
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _STATISTICS}}},
        "static_resources": {
            "listeners": [edge_listener(plan), egress_listener(plan)],
            "clusters": [mender_cluster(plan), admission_cluster(plan)],
        },
    }


def to_json(content: Json) -> bytes:
    """Configuration as the bytes of a file: stable order, readable."""
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def _overload_manager(plan: EdgePlan) -> Json:
    """Shed load before the kernel does: connections over the limit are closed before TLS, a full heap stops intake."""
    monitors = "type.googleapis.com/envoy.extensions.resource_monitors"
    heap = "envoy.resource_monitors.fixed_heap"

    def at(threshold: float) -> list[Json]:
        return [{"name": heap, "threshold": {"value": threshold}}]

    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": plan.capacity.connections,
                },
            },
            {
                "name": heap,
                "typed_config": {
                    "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": plan.capacity.heap_bytes,
                },
            },
        ],
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": at(0.9)},
            {"name": "envoy.overload_actions.stop_accepting_connections", "triggers": at(0.95)},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": at(0.98)},
        ],
    }

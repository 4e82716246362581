"""The two secrets Envoy reads through file SDS: the server certificate and the trust bundle for devices. Pure."""

from __future__ import annotations

from typing import Any

from mtls_ambassador.edge.plan import EdgePlan

Json = dict[str, Any]

SERVER = "server"
DEVICE_TRUST = "device-trust"

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type URL


def render_server_secret(plan: EdgePlan) -> Json:
    """The certificate chain inline, as we judged it; the private key by file name, so that no copy exists."""
    certificate = {
        "certificate_chain": {"inline_string": plan.server_chain_pem},
        "private_key": {"filename": str(plan.server_key)},
    }
    return {"resources": [{"@type": _SECRET, "name": SERVER, "tls_certificate": certificate}]}


def render_device_trust(plan: EdgePlan) -> Json:
    """The trust bundle inline, as we judged it: Envoy never reads the user's file."""
    context = {"trusted_ca": {"inline_string": plan.device_ca_pem}}
    return {"resources": [{"@type": _SECRET, "name": DEVICE_TRUST, "validation_context": context}]}

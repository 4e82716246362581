"""Names on the wire between Envoy and the control plane, which both sides must spell alike."""

from __future__ import annotations

AUTH_PATH = "/api/devices/v1/authentication/auth_requests"
"""The one path that the admission service answers."""

CERTIFICATE_HEADER = "x-edge-client-cert"
"""The client certificate, URL-encoded PEM; exists only between Envoy and the admission service."""

CHAIN_HEADER = "x-edge-client-chain"
"""All certificates that the client presented, in the same form; only where there are several trust anchors."""

ADDRESS_HEADER = "x-edge-client-address"
"""The client's address and port; likewise."""

FAILURE_HEADER = "x-edge-failure"
"""On answers that the egress listener made itself: why Mender could not be asked."""

REQUEST_ID_HEADER = "X-MEN-RequestID"
"""Mender's own name for it."""

LARGEST_AUTH_BODY = 65536
"""Bytes. A real auth request has about 1 kB."""

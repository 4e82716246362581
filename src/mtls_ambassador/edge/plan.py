"""What the renderers need to know, frozen: the settings, judged material and the machine, brought together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtls_ambassador.config.material import Material
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.config.values import BackendUrl
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import fingerprint

BUFFER = 128 * 1024
"""Bytes that Envoy holds for a connection, and for the one upstream, before it stops reading from the other.

A download that a device fetches more slowly than Mender sends keeps both full. With a quarter of this a large download
costs a third more processor time; with eight times as much, a fifth less, and seven times the memory
(`docs/reference/performance.md`).
"""

KEEPALIVE: Mapping[str, int] = {"keepalive_time": 300, "keepalive_interval": 60, "keepalive_probes": 5}
"""How TCP looks for silent peers, in seconds: one that went without a word is found within ten minutes, also when
nothing is said on its WebSocket for hours. Balancers forget silent connections after not much more than the first."""

LARGEST_AUTH_QUEUE = 4096
"""Auth requests that may wait for the admission service; Envoy answers more at once with 503."""


@dataclass(frozen=True, slots=True)
class WorkPaths:
    """Files and sockets inside the work directory."""

    directory: Path

    @property
    def bootstrap(self) -> Path:
        """Envoy's bootstrap."""
        return self.directory / "envoy.json"

    @property
    def server_secret(self) -> Path:
        """The server certificate for file SDS; alone in its directory, since Envoy watches the directory."""
        return self.directory / "server" / "secret.json"

    @property
    def device_trust(self) -> Path:
        """The trust bundle for devices, for file SDS; alone in its directory too."""
        return self.directory / "device-trust" / "secret.json"

    @property
    def envoy_admin(self) -> Path:
        """Socket of Envoy's admin interface."""
        return self.directory / "envoy.sock"

    @property
    def egress(self) -> Path:
        """Socket through which the control plane reaches Mender."""
        return self.directory / "egress.sock"

    @property
    def admission(self) -> Path:
        """Socket of the admission service."""
        return self.directory / "admission.sock"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the machine gives."""

    connections: int
    """Device connections at the same time; each may cost two file descriptors."""
    auth_requests: int
    """Auth requests under way at the same time; each may cost two more. Others wait."""
    heap_bytes: int
    """Above this Envoy sheds load."""


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """Everything that Envoy's configuration follows from."""

    paths: WorkPaths
    listen_host: str
    listen_port: int
    both_families: bool
    """Listen on `::` for IPv4 as well."""
    tls_min_version: str
    handshake_timeout: float
    """Seconds."""
    server_key: Path
    server_chain_pem: str
    server_names: tuple[str, ...]
    device_ca_pem: str
    several_anchors: bool
    """Tell the admission service the certificates that a device presents, so that it finds the anchor."""
    not_devices: Mapping[str, RefusalReason]
    """SHA-256 of certificates that are no device's, to the reason."""
    backend: BackendUrl
    upstream_trust: Path | None
    """PEM bundle; None: the upstream is not verified, or is plain HTTP."""
    allowed_paths: tuple[str, ...]
    storage_paths: tuple[str, ...]
    token_jwks: str | None
    """JWK set that verifies bound tokens; None: tokens are not bound."""
    access_log: Literal["all", "errors", "off"]
    capacity: Capacity


def plan_edge(
    settings: Settings,
    material: Material,
    *,
    paths: WorkPaths,
    port: int,
    machine_has_ipv6: bool,
    former_server_certificates: frozenset[str],
    capacity: Capacity,
    token_jwks: str | None = None,
) -> EdgePlan:
    """Bring together what the user said, what was judged and what the machine is.

    Args:
        settings: What the user said.
        material: The judged certificates.
        paths: Where files and sockets go.
        port: The port to listen on, already chosen if the user said 0.
        machine_has_ipv6: Whether a host-less `listen` takes IPv6 too.
        former_server_certificates: Fingerprints of server certificates that earlier runs used.
        capacity: What the machine gives.
        token_jwks: JWK set that verifies bound tokens, if tokens are bound.
    """
    from_nowhere = settings.listen.host is None
    not_devices = dict.fromkeys(former_server_certificates, RefusalReason.SERVER_CERTIFICATE)
    not_devices[fingerprint(material.server_chain[0])] = RefusalReason.SERVER_CERTIFICATE
    for ca in (*material.device_cas, *material.server_chain[1:]):
        not_devices[fingerprint(ca)] = RefusalReason.CA_CERTIFICATE
    return EdgePlan(
        paths=paths,
        listen_host=settings.listen.host or ("::" if machine_has_ipv6 else "0.0.0.0"),  # noqa: S104
        listen_port=port,
        both_families=(from_nowhere or settings.listen.host == "::") and machine_has_ipv6,
        tls_min_version=settings.tls_min_version,
        handshake_timeout=settings.handshake_timeout,
        server_key=settings.server_key.absolute(),
        server_chain_pem=material.server_chain_pem,
        server_names=material.server_names,
        device_ca_pem=material.device_ca_pem,
        several_anchors=len(material.anchors) > 1,
        not_devices=not_devices,
        backend=settings.mender_backend,
        upstream_trust=material.upstream_trust.absolute() if material.upstream_trust else None,
        allowed_paths=settings.allowed_paths,
        storage_paths=settings.storage_paths,
        token_jwks=token_jwks,
        access_log=settings.access_log,
        capacity=capacity,
    )

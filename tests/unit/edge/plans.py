"""Plans to render, always the same to the last byte; and what they were rendered to, as golden files.

UPDATE_GOLDENS=1 pytest tests/unit/edge     writes the golden files anew; read the difference before you commit it
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mtls_ambassador.config.material import Material, certificate_names
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.edge.bootstrap import to_json
from mtls_ambassador.edge.plan import Capacity, EdgePlan, WorkPaths, plan_edge
from mtls_ambassador.tokens.keys import TokenKeys
from tests.certificates import CertificateAuthority, Holder, Properties

GOLDENS = Path(__file__).with_name("goldens")
DIRECTORY = Path("/DIRECTORY")
"""Stands for the directory of all files, in golden files too."""


def _always(number: int) -> Properties:
    """Properties of the same certificate every time; Ed25519, since its signatures are the same too."""
    return {
        "key": Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)),
        "serial": number,
        "not_before": datetime(2026, 1, 1, tzinfo=UTC),
        "not_after": datetime(2126, 1, 1, tzinfo=UTC),
    }


_NAMES: Properties = {
    "san": ["DNS:edge.example.com", "DNS:*.edge.example.com", "IP:192.0.2.1", "IP:2001:db8::1"],
}
CA = CertificateAuthority("My CA", **_always(1))
OTHER = CertificateAuthority("Other CA", **_always(4))
LINE = CA.intermediate("Line 1", **_always(2))
SERVER: Holder = LINE.server("edge.example.com", **(_always(3) | _NAMES))

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "http_backend": {"mender_backend": "http://mender:8080"},
    "https_hosted": {
        "mender_backend": "https://hosted.mender.io",
        "listen": "0.0.0.0:8443",
        "tls_min_version": "1.3",
        "access_log": "all",
        "allowed_paths": ["/api/devices/v1/inventory/", "/api/devices/v1/deployments/"],
    },
    "https_address_with_own_ca": {
        "mender_backend": "https://10.0.0.5:8443",
        "mender_ca": str(DIRECTORY / "mender-ca.pem"),
        "listen": "[::1]:8443",
        "handshake_timeout": "500ms",
    },
    "several_anchors": {
        "trust_anchors": [
            {"name": "plant-1", "ca": str(DIRECTORY / "ca.pem")},
            {"name": "plant-2", "ca": str(DIRECTORY / "other-ca.pem")},
        ],
    },
    "insecure": {
        "mender_backend": "https://mender.example.com",
        "insecure_skip_verify": True,
        "access_log": "off",
    },
    "bound_tokens": {
        "mender_backend": "https://mender.example.com",
        "storage_paths": ["/artifacts/"],
        "bind_tokens": True,
    },
}
JWKS = TokenKeys.of([ec.derive_private_key(number, ec.SECP256R1()) for number in (1, 2)]).jwks
SYSTEM_TRUST = DIRECTORY / "system-trust.pem"


def settings(**given: object) -> Settings:
    """Settings as a user might give them, on files in DIRECTORY."""
    single = {} if "trust_anchors" in given else {"tenant_ca_pem": DIRECTORY / "ca.pem"}
    return Settings.model_validate(
        {
            "mender_backend": "https://hosted.mender.io",
            "mender_token": "hunter2",
            "server_cert": DIRECTORY / "server.pem",
            "server_key": DIRECTORY / "server.key",
            **single,
            **given,
        }
    )


def judged(chosen: Settings, *, server: Holder = SERVER) -> Material:
    """What judging the files of DIRECTORY would give."""
    verified = chosen.mender_backend.tls and not chosen.insecure_skip_verify
    return Material(
        server_chain=(server.certificate, *server.intermediates),
        server_names=certificate_names(server.certificate),
        anchors={anchor.name: (ca.certificate,) for anchor, ca in zip(chosen.anchors, (CA, OTHER), strict=False)},
        upstream_trust=(chosen.mender_ca or SYSTEM_TRUST) if verified else None,
        warnings=(),
    )


def plan(
    *, server: Holder = SERVER, ipv6: bool = True, former: frozenset[str] = frozenset(), **given: object
) -> EdgePlan:
    """The plan that follows from these settings."""
    chosen = settings(**given)
    return plan_edge(
        chosen,
        judged(chosen, server=server),
        paths=WorkPaths(DIRECTORY / "work"),
        port=chosen.listen.port,
        machine_has_ipv6=ipv6,
        former_server_certificates=former,
        capacity=Capacity(connections=10_000, auth_requests=2_000, heap_bytes=2**30),
        token_jwks=JWKS if chosen.bind_tokens else None,
    )


def everything_in(content: object) -> Iterator[object]:
    """All keys, values and items of JSON data, however deep."""
    yield content
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from everything_in(value)
    elif isinstance(content, list):
        for item in content:
            yield from everything_in(item)


def assert_golden(name: str, content: dict[str, Any]) -> None:
    """Compare with the golden file of this name, or write it.

    Raises:
        AssertionError: they differ.
    """
    file = GOLDENS / f"{name}.json"
    if os.environ.get("UPDATE_GOLDENS"):
        file.write_bytes(to_json(content))
    assert json.loads(file.read_bytes()) == content, "if that is meant: UPDATE_GOLDENS=1 pytest tests/unit/edge"
    assert file.read_bytes() == to_json(content)

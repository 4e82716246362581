"""The real Debian Mender client before an edge, configured as Mender's document on mutual TLS says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtls_ambassador.lab.mender_client import MenderClient, obstacle
from tests.peers import unavailable

CERTIFICATE = "/data/mender/mender-cert.pem"
KEY = "/data/mender/mender-cert-private.pem"


def seed_client(
    directory: Path,
    *,
    port: int,
    trust: Sequence[Path],
    certificate: bytes,
    key: bytes,
    identity: Mapping[str, str],
    tenant_token: str = "4324h23kj4h23kj4h",
    modules: Mapping[str, bytes] | None = None,
    connect: Mapping[str, Any] | None = None,
) -> MenderClient:
    """The client with the document's `mender.conf`: only `HttpsClient`, so that its key signs auth requests too.

    The domain is the document's as well, by /etc/hosts of the client's own mount namespace; only the port is ours.

    Args:
        directory: For its files and log.
        port: Where the edge listens.
        trust: CA certificates put into the client's system trust.
        certificate: PEM, put where the document puts it.
        key: PEM of its private key.
        identity: What the identity script prints.
        tenant_token: As in the document.
        modules: More update modules, programs by their name.
        connect: mender-connect.conf; None leaves mender-connect out.
    """
    reason = obstacle()
    if reason is not None:
        unavailable(reason)
    return MenderClient(
        directory,
        conf={
            "InventoryPollIntervalSeconds": 5,
            "ServerURL": f"https://my-server.com:{port}",
            "TenantToken": tenant_token,
            "UpdatePollIntervalSeconds": 5,
            "HttpsClient": {"Certificate": CERTIFICATE, "Key": KEY},
        },
        identity=identity,
        inventory={"hostname": "debian"},
        hosts={"my-server.com": "127.0.0.1"},
        trust=trust,
        files={CERTIFICATE: certificate, KEY: key},
        modules=modules,
        connect=connect,
    )

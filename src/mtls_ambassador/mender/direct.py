"""Requests to Mender over a TLS connection of our own, for commands that run without an edge."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp

from mtls_ambassador.config.values import BackendUrl
from mtls_ambassador.errors import Error
from mtls_ambassador.mender.egress import Egress
from mtls_ambassador.mender.errors import UntrustedServer, UpstreamUnavailable


class DirectEgress(Egress):
    """As `Egress`, with no Envoy in between; a server that cannot be trusted is UntrustedServer.

    Args:
        backend: The Mender Server.
        trust: How its certificate is verified, from `client_trust`.
        connections: How many at the same time.
    """

    def __init__(self, backend: BackendUrl, trust: ssl.SSLContext, *, connections: int) -> None:
        super().__init__(Path(), connections=connections)
        self._base = str(backend)
        self._trust = trust

    def _connector(self) -> aiohttp.BaseConnector:
        return aiohttp.TCPConnector(ssl=self._trust, limit=self._connections, keepalive_timeout=50)

    def _failure(self, error: Exception) -> Error:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", None) or error.certificate_error
            return UntrustedServer(
                f"the certificate of {self._base} cannot be trusted: {reason}",
                "Check the name in mender_backend, and set mender_ca if a CA of your own signed it.",
            )
        return UpstreamUnavailable(
            f"{self._base} cannot be reached: {str(error) or type(error).__name__}",
            "Check mender_backend and the network.",
        )


def client_trust(ca: Path | None, *, verify: bool) -> ssl.SSLContext:
    """How Mender's certificate is verified, as the edge does: chain and name, a listed intermediate being enough.

    Args:
        ca: PEM file of the CAs to trust; None: the system's.
        verify: Whether to verify at all.

    Raises:
        Error: the file cannot be read, or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise Error(f"mender_ca ({ca}) holds no certificate that can be read", "Give a PEM file.") from error
        except OSError as error:
            raise Error(f"mender_ca ({ca}) cannot be read: {error.strerror}", "Check its path.") from error
    return context

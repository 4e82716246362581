"""Keys and certificates for a run: a CA, a server, and devices, all of one kind of key."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.certificates import CertificateAuthority, Holder

Kind = Literal["p256", "rsa2048"]
NAME = "my-server.com"


@dataclass
class Material:
    """Certificates in files.

    Attributes:
        kind: The kind of every key.
        directory: Where the files are.
    """

    kind: Kind
    directory: Path
    _ca: CertificateAuthority = field(init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self._ca = CertificateAuthority("Bench CA", key=self.kind)
        server = self._ca.server(NAME, key=self.kind, san=[f"DNS:{NAME}"])
        self.ca = self.directory / "ca.pem"
        self.ca.write_bytes(self._ca.pem)
        self.server, self.server_key = server.write(self.directory, "server")
        # HAProxy wants both in one file.
        self.server_both = self.directory / "server-both.pem"
        self.server_both.write_bytes(server.chain_pem + server.key_pem)

    def device(self, name: str) -> Holder:
        """A new device's certificate and key."""
        return self._ca.device(name, key=self.kind)

    def context(self, device: Holder, version: ssl.TLSVersion) -> ssl.SSLContext:
        """A TLS client that shows `device`'s certificate and speaks exactly this version.

        In TLS 1.2 it offers AES-128-GCM alone, so that all peers do the same work. In 1.3 Python cannot choose: there
        everybody speaks AES-256-GCM, which OpenSSL prefers.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = version
        context.load_verify_locations(self.ca)
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
        certificate, key = device.write(self.directory, "client")
        context.load_cert_chain(certificate, key)
        return context

"""What certificates and public keys are compared by. Pure."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def spki(key: PublicKeyTypes) -> bytes:
    """DER of a key's SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7): two keys are the same where this is."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate, lower-case hex, as Envoy's `%DOWNSTREAM_PEER_FINGERPRINT_256%` writes it."""
    return certificate.fingerprint(hashes.SHA256()).hex()

"""The client certificate that Envoy verified, and whether it may be a device's at all. Pure."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import fingerprint, spki

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What admission wants to know of a client certificate."""

    fingerprint: str
    """SHA-256 of the certificate, lower-case hex."""
    public_key: bytes
    """DER of its SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)."""
    subject: str
    """RFC 4514 text; may be empty."""
    issuer: str
    serial: str
    """Lower-case hex in whole bytes, as Envoy and `openssl x509 -serial` write it."""
    is_ca: bool
    not_after: dt.datetime
    """With its time zone."""


def read_certificate(header: str | None) -> PeerCertificate:
    """Read Envoy's `%DOWNSTREAM_PEER_CERT%`: PEM, URL-encoded.

    Raises:
        Refused: `certificate_unreadable`; the header is missing or its content cannot be parsed.
    """
    if not header:
        raise Refused(RefusalReason.CERTIFICATE_UNREADABLE, "Envoy passed none on")
    try:
        certificate = x509.load_pem_x509_certificate(unquote_to_bytes(header))
        return _describe(certificate)
    except _UNREADABLE as error:
        raise Refused(RefusalReason.CERTIFICATE_UNREADABLE, f"{type(error).__name__}: {error}") from None


def require_device(
    certificate: PeerCertificate,
    *,
    server_keys: AbstractSet[bytes],
    ca_keys: AbstractSet[bytes],
    now: dt.datetime,
) -> None:
    """Refuse a certificate that is a CA's, or has the key of a CA or of this edge's server certificate, or has expired.

    Envoy refuses those very certificates already; this also refuses unknown ones of the kind, such as an intermediate
    CA that nobody configured, and others issued for the same key.

    Args:
        certificate: The client's.
        server_keys: SubjectPublicKeyInfo (DER) of the edge's own certificates.
        ca_keys: The same of the trust bundle.
        now: With its time zone. TLS looked when the connection was made, which may be long ago.

    Raises:
        Refused: `ca_certificate`, `server_certificate` or `certificate_expired`.
    """
    if certificate.is_ca or certificate.public_key in ca_keys:
        raise Refused(RefusalReason.CA_CERTIFICATE, certificate.subject)
    if certificate.public_key in server_keys:
        raise Refused(RefusalReason.SERVER_CERTIFICATE, certificate.subject)
    if certificate.not_after < now:
        raise Refused(RefusalReason.CERTIFICATE_EXPIRED, f"on {certificate.not_after:%Y-%m-%d %H:%M} UTC")


def keys_of(certificates: Iterable[x509.Certificate]) -> frozenset[bytes]:
    """The keys of certificates, without those of a kind that cannot be read, which no request can have either."""
    keys: set[bytes] = set()
    for certificate in certificates:
        with contextlib.suppress(UnsupportedAlgorithm, ValueError):
            keys.add(spki(certificate.public_key()))
    return frozenset(keys)


def _describe(certificate: x509.Certificate) -> PeerCertificate:
    serial = f"{certificate.serial_number:x}"
    return PeerCertificate(
        fingerprint=fingerprint(certificate),
        public_key=spki(certificate.public_key()),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=serial.zfill(len(serial) + len(serial) % 2),
        is_ca=_is_ca(certificate),
        not_after=certificate.not_valid_after_utc,
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False

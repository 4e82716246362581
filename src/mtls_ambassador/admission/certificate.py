"""The client certificate that Envoy verified, and whether it may be a device's at all. Pure."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.config.binding import CertificateField
from mtls_ambassador.ledger.records import Certificate
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
_SUBJECT: Mapping[ObjectIdentifier, CertificateField] = {
    NameOID.COMMON_NAME: CertificateField.COMMON_NAME,
    NameOID.SERIAL_NUMBER: CertificateField.SERIAL_NUMBER,
    NameOID.ORGANIZATIONAL_UNIT_NAME: CertificateField.ORGANIZATIONAL_UNIT,
    NameOID.ORGANIZATION_NAME: CertificateField.ORGANIZATION,
}
_ALTERNATIVES: Mapping[type[x509.GeneralName], CertificateField] = {
    x509.DNSName: CertificateField.DNS_NAME,
    x509.UniformResourceIdentifier: CertificateField.URI,
    x509.RFC822Name: CertificateField.EMAIL,
}
_MOST_VALUES = 32
_BASIC_CONSTRAINTS = b"\x06\x03\x55\x1d\x13"
# Critical or not, and an empty sequence: DER leaves out CA:FALSE, which is the default (RFC 5280 section 4.2.1.9).
_NO_CA = re.compile(_BASIC_CONSTRAINTS + rb"(?:\x01\x01\xff)?\x04\x02\x30\x00")


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
    not_before: dt.datetime
    """With its time zone."""
    not_after: dt.datetime
    """With its time zone."""
    names: Mapping[CertificateField, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Names in the subject and among its alternatives; a field that could not be read is left out."""

    @property
    def key_fingerprint(self) -> str:
        """SHA-256 of its SubjectPublicKeyInfo, lower-case hex."""
        return hashlib.sha256(self.public_key).hexdigest()

    def values(self, name: CertificateField) -> tuple[str, ...] | None:
        """What stands in this field: nothing, one value, several; None if it cannot be read."""
        match name:
            case CertificateField.SERIAL:
                return (self.serial,)
            case CertificateField.ISSUER:
                return (self.issuer,)
            case CertificateField.KEY:
                return (self.key_fingerprint,)
            case CertificateField.FINGERPRINT:
                return (self.fingerprint,)
            case _:
                return self.names.get(name)

    def record(self, anchor: str) -> Certificate:
        """What the ledger keeps of it.

        Args:
            anchor: Name of the trust anchor that verified it.
        """
        return Certificate(
            self.fingerprint,
            self.key_fingerprint,
            self.subject,
            self.issuer,
            self.serial,
            anchor,
            self.not_before,
            self.not_after,
        )


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
    serial, subject = f"{certificate.serial_number:x}", certificate.subject
    return PeerCertificate(
        fingerprint=fingerprint(certificate),
        public_key=spki(certificate.public_key()),
        subject=subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=serial.zfill(len(serial) + len(serial) % 2),
        is_ca=_is_ca(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        names=_names(certificate, subject),
    )


def _names(certificate: x509.Certificate, subject: x509.Name) -> Mapping[CertificateField, tuple[str, ...]]:
    names = _sorted(((_SUBJECT.get(attribute.oid), attribute.value) for attribute in subject), _SUBJECT.values())
    # All extensions are read or none: an odd one must not keep the device out where no rule needs its names.
    with contextlib.suppress(*_UNREADABLE):
        alternatives = _alternatives(certificate)
        names |= _sorted(((_ALTERNATIVES.get(type(item)), item.value) for item in alternatives), _ALTERNATIVES.values())
    return MappingProxyType(names)


def _alternatives(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()


def _sorted(
    values: Iterable[tuple[CertificateField | None, object]], fields: Iterable[CertificateField]
) -> dict[CertificateField, tuple[str, ...]]:
    """The values of each field, without fields that hold what is no text or more than a rule should ever look at."""
    found: dict[CertificateField, list[object]] = {name: [] for name in fields}
    for name, value in values:
        if name is not None:
            found[name].append(value)
    texts = {name: tuple(value for value in held if isinstance(value, str)) for name, held in found.items()}
    return {name: held for name, held in texts.items() if len(held) == len(found[name]) <= _MOST_VALUES}


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.UnsupportedGeneralNameType):
        # Another extension cannot be read. It is a device's still, if what stands for a CA says no, or is not there.
        der = certificate.public_bytes(serialization.Encoding.DER)
        if der.count(_BASIC_CONSTRAINTS) != len(_NO_CA.findall(der)):
            raise
        return False

"""What the index of a CA keeps of a certificate and of a revocation. Pure."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_ambassador.x509 import spki


class Kind(StrEnum):
    """What a certificate is for."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    SERVER = "server"
    DEVICE = "device"


class Status(StrEnum):
    """What became of a certificate; that it has expired is a matter of the clock, see `Entry.status_at`."""

    PENDING = "pending"
    """Made, but nobody can say whether its files were written: the program was killed in between."""
    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"


class Reason(StrEnum):
    """Why a certificate was revoked, by RFC 5280's names (section 5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    AA_COMPROMISE = "aACompromise"

    @property
    def is_compromise(self) -> bool:
        """Whether somebody else has the key, which is then good for nothing any more."""
        return self in {Reason.KEY_COMPROMISE, Reason.CA_COMPROMISE, Reason.AA_COMPROMISE}


@dataclass(frozen=True, slots=True)
class Revocation:
    """A serial number that is no longer good.

    Attributes:
        serial: Lower-case hex in whole bytes.
        at: Since when, with its time zone.
        reason: Why.
    """

    serial: str
    at: datetime
    reason: Reason = Reason.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate that the CA issued.

    Attributes:
        serial: Lower-case hex in whole bytes, as Envoy and `openssl x509 -serial` (in upper case) write it.
        kind: What it is for.
        subject: RFC 4514 text.
        public_key: SHA-256 of its SubjectPublicKeyInfo, lower-case hex.
        fingerprint: SHA-256 of its DER, lower-case hex.
        not_before: With its time zone.
        not_after: With its time zone.
        path: Where it was written: relative to the CA's folder if it lies within, else absolute; empty if nowhere.
        der: The certificate itself.
        status: Without regard to the clock.
        revocation: Set if it is revoked.
    """

    serial: str
    kind: Kind
    subject: str
    public_key: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    path: str
    der: bytes = field(repr=False)
    status: Status = Status.VALID
    revocation: Revocation | None = None

    def status_at(self, now: datetime) -> Status:
        """The status, with regard to the clock."""
        return Status.EXPIRED if self.status is Status.VALID and self.not_after < now else self.status


def entry(certificate: x509.Certificate, kind: Kind, path: str, key: PublicKeyTypes | None = None) -> Entry:
    """The entry of a certificate.

    Args:
        certificate: The certificate.
        kind: What it is for.
        path: Where it is or will be written, see `Entry.path`.
        key: Its public key, if it is at hand, so that it need not be parsed anew: batches have thousands.
    """
    der = certificate.public_bytes(Encoding.DER)
    return Entry(
        serial=serial_text(certificate.serial_number),
        kind=kind,
        subject=certificate.subject.rfc4514_string(),
        public_key=key_text(key or certificate.public_key()),
        fingerprint=hashlib.sha256(der).hexdigest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        path=path,
        der=der,
    )


def kind_of(certificate: x509.Certificate, file_name: str = "") -> Kind:
    """What a certificate of anybody's making is for.

    Args:
        certificate: The certificate.
        file_name: Asked where the certificate says nothing: Mender's document calls the server's `server-cert.pem`.
    """
    extensions = certificate.extensions
    with contextlib.suppress(x509.ExtensionNotFound):
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return Kind.ROOT if certificate.subject == certificate.issuer else Kind.INTERMEDIATE
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        if certificate.subject == certificate.issuer:
            return Kind.ROOT
        return Kind.SERVER if file_name.startswith("server") else Kind.DEVICE
    only_server = ExtendedKeyUsageOID.SERVER_AUTH in purposes and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes
    return Kind.SERVER if only_server else Kind.DEVICE


def key_text(key: PublicKeyTypes) -> str:
    """SHA-256 of a key's SubjectPublicKeyInfo, lower-case hex: what `Entry.public_key` is."""
    return hashlib.sha256(spki(key)).hexdigest()


def serial_text(serial: int) -> str:
    """A serial number as Envoy writes it: lower-case hex, whole bytes."""
    digits = f"{abs(serial):x}"
    return f"{'-' if serial < 0 else ''}{'0' * (len(digits) % 2)}{digits}"


def to_epoch(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return int(moment.timestamp())


def from_epoch(seconds: int) -> datetime:
    """The moment, UTC."""
    return datetime.fromtimestamp(seconds, UTC)

"""Revoking, and the revocation list (CRL) that says so, `ca.crl`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.errors import Error
from mtls_ambassador.files import Content, write_together
from mtls_ambassador.pki import entries, profiles, signer
from mtls_ambassador.pki.entries import Entry, Reason, Revocation
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.issuing import make_directories
from mtls_ambassador.pki.keys import Passphrase
from mtls_ambassador.pki.profiles import Signer

CRL = "ca.crl"
CRL_DAYS = 30
"""How long a list is good. An edge whose list has expired cannot tell who is revoked: make a new one well before."""


class RevocationError(Error):
    """A certificate cannot be revoked, or a list would leave out what an earlier one has."""


@dataclass(frozen=True)
class WrittenList:
    """A revocation list that was made, and where.

    Attributes:
        path: Its PEM file, mode 0644.
        crl: The list.
        number: Its CRL number.
    """

    path: Path
    crl: x509.CertificateRevocationList
    number: int


def revoke(
    directory: Path,
    certificate: x509.Certificate,
    *,
    reason: Reason = Reason.UNSPECIFIED,
    file: Path | None = None,
    now: datetime | None = None,
) -> Entry:
    """Revoke a certificate, by itself; the next revocation list has it. Neither the CA's key nor a network is needed.

    Args:
        directory: The CA's folder.
        certificate: Made by this program or any other, as long as this CA signed it.
        reason: Why.
        file: Where the certificate was found, for the index, if it does not know it yet.
        now: The current time; the clock's by default.

    Returns:
        What the index says now: of one that was revoked before, the first time and reason.

    Raises:
        RevocationError: it is the CA's own certificate.
        SignerError: this CA did not issue it.
        IndexFileError: the index cannot be written.
    """
    ca = signer.read_certificate(directory)
    signer.require_issued(ca, certificate, directory)
    if certificate == ca:
        raise RevocationError(
            "a root CA cannot revoke itself: nobody would believe the list",
            "Take it out of the edge's tenant_ca_pem; every certificate that it signed goes with it.",
        )
    serial = entries.serial_text(certificate.serial_number)
    with Index.open(directory) as index:
        if index.find(serial) is None:
            kind = entries.kind_of(certificate, file.name if file else "")
            index.add([entries.entry(certificate, kind, str(file.absolute()) if file else "")])
        return _revoke(index, serial, reason, now)


def revoke_serial(
    directory: Path,
    serial: str,
    *,
    reason: Reason = Reason.UNSPECIFIED,
    unknown: bool = False,
    now: datetime | None = None,
) -> Entry | None:
    """Revoke a certificate by its serial number.

    Args:
        directory: The CA's folder.
        serial: Hexadecimal, with or without colons, in either case.
        reason: Why.
        unknown: Also one that the index does not know.
        now: The current time; the clock's by default.

    Returns:
        What the index says now; None if it does not know the certificate.

    Raises:
        RevocationError: it is no serial number, or the index does not know it.
        IndexFileError: the index cannot be written.
    """
    number = parse_serial(serial)
    ca = signer.read_certificate(directory)
    text = entries.serial_text(number)
    if number == ca.serial_number and ca.subject == ca.issuer:
        raise RevocationError(
            "a root CA cannot revoke itself: nobody would believe the list",
            "Take it out of the edge's tenant_ca_pem; every certificate that it signed goes with it.",
        )
    with Index.open(directory) as index:
        if index.find(text) is None:
            if not unknown:
                raise RevocationError(
                    f"this CA has no certificate of the serial number {text} on record",
                    "Give the certificate's file; or, if you are sure of the number, add --unknown.",
                )
            index.revoke([Revocation(text, now or datetime.now(UTC), reason)])
            return None
        return _revoke(index, text, reason, now)


def others_of_key(directory: Path, entry: Entry) -> Sequence[Entry]:
    """Certificates for the key of another one that are not revoked: where it was compromised, they should be.

    Raises:
        IndexFileError: the index cannot be read.
    """
    with Index.open(directory, writable=False) as index:
        return [each for each in index.of_key(entry.public_key) if each.revocation is None]


def parse_serial(text: str) -> int:
    """A serial number from hexadecimal text, as `openssl x509 -serial`, Envoy or a browser write it.

    Raises:
        RevocationError: it is none.
    """
    digits = text.strip().removeprefix("serial=").removeprefix("0x").replace(":", "").replace(" ", "")
    try:
        if not digits.isalnum():
            raise ValueError
        return int(digits, 16)
    except ValueError as error:
        raise RevocationError(
            f"{text!r} is neither a file nor a serial number",
            "Give a certificate's file, or its serial number in hexadecimal, as `pki list` shows it.",
        ) from error


def write_crl(
    directory: Path,
    *,
    out: Path | None = None,
    days: int = CRL_DAYS,
    passphrase: Passphrase | None = None,
    now: datetime | None = None,
) -> WrittenList:
    """Make `ca.crl`, PEM, in place of the list before: signed, with a next update, a number and reasons (RFC 5280, 5).

    Args:
        directory: The CA's folder.
        out: The directory to write to; `directory` by default.
        days: For how long it is good.
        passphrase: Asked if the CA's key is encrypted.
        now: The current time; the clock's by default.

    Raises:
        SignerError: the CA is missing, damaged, expired, or must not sign lists.
        KeyFileError: the CA's key cannot be read.
        RevocationError: the list that is there has serial numbers that the index does not know of, and the new one
            would make them good again; or it is not this CA's.
        ProfileError: the number of days makes no date.
        IndexFileError, WriteError: the files cannot be written.
    """
    now = now or datetime.now(UTC)
    ca = signer.load(directory, now, passphrase)
    signer.require_signs_lists(ca.certificate, directory)
    path = (out or directory) / CRL
    with Index.open(directory) as index:
        revoked = list(index.revocations())
        before = _require_nothing_lost(ca, path, {each.serial for each in revoked})
        validity = profiles.Validity(now, days)
        number = index.next_crl_number(at_least=before + 1)
        crl = profiles.revocation_list(ca, revoked, validity, number)
        content = Content(path, crl.public_bytes(Encoding.PEM), 0o644)
        make_directories([content])
        write_together([content], replace=True)
    return WrittenList(path, crl, number)


def read_crl(path: Path) -> x509.CertificateRevocationList:
    """A revocation list, PEM or DER.

    Raises:
        RevocationError: the file cannot be read or holds none.
    """
    try:
        data = path.read_bytes()
        return x509.load_pem_x509_crl(data) if b"-----BEGIN" in data else x509.load_der_x509_crl(data)
    except OSError as error:
        raise RevocationError(
            f"cannot read the revocation list {path}: {error.strerror}", "See that this user may read it."
        ) from error
    except ValueError as error:
        raise RevocationError(
            f"{path} holds no revocation list", f"Move it away, or look at it with: openssl crl -in {path} -noout -text"
        ) from error


def is_signed(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    """Whether a list has the signature of this CA, whatever the names say."""
    try:
        return crl.is_signature_valid(ca.public_key())  # type: ignore[arg-type]  # a kind that signs none raises
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def revocations_in(crl: x509.CertificateRevocationList) -> Iterable[Revocation]:
    """What a revocation list says, any program's."""
    for each in crl:
        try:
            reason = Reason(each.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
        except (x509.ExtensionNotFound, ValueError):
            reason = Reason.UNSPECIFIED
        yield Revocation(entries.serial_text(each.serial_number), each.revocation_date_utc, reason)


def number_of(crl: x509.CertificateRevocationList) -> int:
    """A list's CRL number; 0 if it has none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _revoke(index: Index, serial: str, reason: Reason, now: datetime | None) -> Entry:
    index.revoke([Revocation(serial, now or datetime.now(UTC), reason)])
    found = index.find(serial)
    assert found is not None  # noqa: S101  # entries of certificates that may exist are never taken out
    return found


def _require_nothing_lost(ca: Signer, path: Path, known: set[str]) -> int:
    if not path.exists():
        return 0
    crl = read_crl(path)
    if crl.issuer != ca.certificate.subject:
        raise RevocationError(
            f"{path} is the list of another CA, {crl.issuer.rfc4514_string()}", "Write elsewhere, with --out."
        )
    lost = {each.serial for each in revocations_in(crl)} - known
    if lost:
        raise RevocationError(
            f"{path} revokes {len(lost)} serial numbers that the index does not know, such as {min(lost)}: "
            "a new list would make them good again",
            f"Take them over first: mtls-ambassador pki adopt --dir {path.parent} --crl {path}",
        )
    return number_of(crl)

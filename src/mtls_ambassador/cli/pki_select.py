"""A certificate that a person names: by its file, or by its serial number in the index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from mtls_ambassador.pki import entries, inspection, lint, pem, revocation
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.index import INDEX, Index
from mtls_ambassador.pki.revocation import RevocationError


@dataclass(frozen=True)
class Chosen:
    """A certificate, and what it is for.

    Attributes:
        certificate: The certificate.
        kind: As the index says, else as the certificate itself looks.
        file: Where it was read, if it was not the index.
    """

    certificate: x509.Certificate
    kind: Kind
    file: Path | None


def named(directory: Path, text: str) -> Chosen:
    """The certificate in the file `text`, or with the serial number `text`.

    Raises:
        RevocationError: it is neither, or the index does not know the number.
        WriteError: the file cannot be read.
        IndexFileError: the index cannot be read.
    """
    file = Path(text)
    if file.exists():
        certificate = read_certificate(file)
        known = _indexed(directory, entries.serial_text(certificate.serial_number))
        if known and known.certificate == certificate:
            return Chosen(certificate, known.kind, file)
        return Chosen(certificate, entries.kind_of(certificate, file.name), file)
    serial = entries.serial_text(revocation.parse_serial(text))
    found = _indexed(directory, serial)
    if found is None:
        raise RevocationError(
            f"there is no file {text}, and this CA has no certificate of the serial number {serial} on record",
            "Name a certificate's file, or a serial number that `pki list` shows.",
        )
    return found


def read_certificate(file: Path) -> x509.Certificate:
    """The first certificate in a file, PEM or DER.

    Raises:
        PemError: it holds none that can be read.
        WriteError: the file itself cannot be read.
    """
    first = pem.certificates(inspection.read(file), str(file))[0]
    try:
        return lint.read(first)
    except lint.UnreadableError as error:
        raise pem.PemError(f"{file}: {error.finding.what}", error.finding.remedy) from error


def _indexed(directory: Path, serial: str) -> Chosen | None:
    if not (directory / INDEX).exists():
        return None
    with Index.open(directory, writable=False) as index:
        entry = index.find(serial)
    return Chosen(x509.load_der_x509_certificate(entry.der), entry.kind, None) if entry else None

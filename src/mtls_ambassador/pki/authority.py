"""The authority in a directory: a CA and what it issues, under the file names of the Mender documentation."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.files import Content, ExistsError, WriteError, write_together
from mtls_ambassador.pki import keys, profiles, signer
from mtls_ambassador.pki.keys import KeyKind, PrivateKey
from mtls_ambassador.pki.profiles import SubjectFields, Validity
from mtls_ambassador.pki.signer import CA_CERTIFICATE, CA_KEY

SERVER_KEY, SERVER_CERTIFICATE = "server-private.key", "server-cert.pem"
DEVICE_KEY, DEVICE_CERTIFICATE = "device-private.key", "device-cert.pem"


@dataclass(frozen=True)
class Issued:
    """A certificate that was made and written, and where.

    Attributes:
        certificate: The certificate.
        certificate_path: Its PEM file, mode 0644.
        key_path: Its private key's PEM file, mode 0600.
    """

    certificate: x509.Certificate
    certificate_path: Path
    key_path: Path


def init(
    directory: Path,
    cn: str,
    *,
    kind: KeyKind = KeyKind.P256,
    days: int = profiles.CA_DAYS,
    subject: SubjectFields | None = None,
    now: datetime | None = None,
) -> Issued:
    """Make a root CA: `ca-private.key` and `ca-cert.pem`. A CA that is there is never overwritten.

    Args:
        directory: Where; made if it is missing.
        cn: The common name. Give every CA its own: two of one name confuse those who verify.
        kind: The key's kind.
        days: How long it is valid.
        subject: More of its name.
        now: The current time; the clock's by default.

    Raises:
        ExistsError: there is a CA, or a part of one, in the directory.
        ProfileError: the name or the number of days does not fit into a certificate.
        WriteError: the files cannot be written.
    """
    name = profiles.subject(cn, subject)
    key = keys.generate(kind)
    certificate = profiles.root_ca(key, name, Validity(now or datetime.now(UTC), days), _serial())
    try:
        return _write(Issued(certificate, directory / CA_CERTIFICATE, directory / CA_KEY), key, replace=False)
    except ExistsError as error:
        raise ExistsError(
            f"{error.what}; every certificate of a CA depends on its key, so a CA is never overwritten",
            "Use this CA, or make the new one in another directory.",
        ) from error


def issue_server(
    directory: Path,
    cn: str,
    *,
    san: Iterable[str] = (),
    out: Path | None = None,
    kind: KeyKind = KeyKind.P256,
    days: int = profiles.SERVER_DAYS,
    subject: SubjectFields | None = None,
    replace: bool = False,
    now: datetime | None = None,
) -> Issued:
    """Issue an edge proxy's certificate: `server-private.key` and `server-cert.pem`.

    Args:
        directory: Where the CA is.
        cn: The host name or address that devices connect to.
        san: More of them: `DNS:name`, `IP:address`, or without the prefix.
        out: The directory to write to, made if it is missing; `directory` by default.
        kind: The key's kind.
        days: How long it is valid.
        subject: More of its name.
        replace: Whether to replace a key and certificate that are there.
        now: The current time; the clock's by default.

    Raises:
        SignerError: the CA is missing, damaged, expired, or devices would refuse what it signs.
        KeyFileError: the CA's key cannot be read.
        ExistsError: without `replace`, a key or certificate is there already.
        ProfileError: a name or the number of days does not fit into a certificate.
        WriteError: the files cannot be written.
    """
    now = now or datetime.now(UTC)
    ca = signer.load(directory, now)
    signer.require_signs_servers(ca.certificate, directory)
    name = profiles.subject(cn, subject)
    key = keys.generate(kind)
    certificate = profiles.server(
        key.public_key(), name, san, validity=Validity(now, days), serial=_serial(), signer=ca
    )
    target = out or directory
    issued = Issued(certificate, target / SERVER_CERTIFICATE, target / SERVER_KEY)
    return _write(issued, key, replace=replace)


def issue_device(
    directory: Path,
    cn: str,
    *,
    out: Path | None = None,
    kind: KeyKind = KeyKind.P256,
    days: int = profiles.DEVICE_DAYS,
    subject: SubjectFields | None = None,
    replace: bool = False,
    now: datetime | None = None,
) -> Issued:
    """Issue a device's certificate: `device-private.key` and `device-cert.pem`.

    Args:
        directory: Where the CA is.
        cn: The device's own name, unlike every other device's.
        out: The directory to write to, made if it is missing; `directory` by default.
        kind: The key's kind.
        days: How long it is valid.
        subject: More of its name.
        replace: Whether to replace a key and certificate that are there.
        now: The current time; the clock's by default.

    Raises:
        SignerError: the CA is missing, damaged or expired.
        KeyFileError: the CA's key cannot be read.
        ExistsError: without `replace`, a key or certificate is there already.
        ProfileError: the name or the number of days does not fit into a certificate.
        WriteError: the files cannot be written.
    """
    now = now or datetime.now(UTC)
    ca = signer.load(directory, now)
    name = profiles.subject(cn, subject)
    key = keys.generate(kind)
    certificate = profiles.device(key.public_key(), name, validity=Validity(now, days), serial=_serial(), signer=ca)
    target = out or directory
    issued = Issued(certificate, target / DEVICE_CERTIFICATE, target / DEVICE_KEY)
    return _write(issued, key, replace=replace)


def _serial() -> int:
    # RFC 5280 section 4.1.2.2 allows 20 octets. The top bit is set so that every tool prints the same 32 digits: one
    # that drops leading zeros and one that does not would disagree about a blacklist's entry.
    return 1 << 127 | secrets.randbits(127)


def _write(issued: Issued, key: PrivateKey, *, replace: bool) -> Issued:
    certificate = issued.certificate.public_bytes(Encoding.PEM)
    directory = issued.key_path.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot make the directory {directory}: {error.strerror}", "Name another.") from error
    write_together(
        [Content(issued.key_path, keys.private_pem(key), 0o600), Content(issued.certificate_path, certificate, 0o644)],
        replace=replace,
    )
    return issued

"""The authority in a directory: a CA and what it issues, under the file names of the Mender documentation.

Whatever it issues is in the CA's index (`index.py`) before it is in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.files import Content, ExistsError, write_together
from mtls_ambassador.pki import entries, keys, profiles, signer
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.index import INDEX, Index
from mtls_ambassador.pki.issuing import (
    Certified,
    Claim,
    Issued,
    chain_file,
    make_directories,
    new_serial,
    record_and_write,
    recorded_path,
)
from mtls_ambassador.pki.keys import KeyKind, Passphrase
from mtls_ambassador.pki.profiles import Signer, SubjectFields, Validity
from mtls_ambassador.pki.request import load_request, require_foreign, require_subject
from mtls_ambassador.pki.signer import CA_CERTIFICATE, CA_KEY

SERVER_KEY, SERVER_CERTIFICATE = "server-private.key", "server-cert.pem"
DEVICE_KEY, DEVICE_CERTIFICATE = "device-private.key", "device-cert.pem"
ROOT = "root"
"""Folder of the offline root, within that of its intermediate; it is a CA's folder like any other."""


@dataclass(frozen=True)
class Signed(Certified):
    """A certificate for a request.

    Attributes:
        not_taken: Names of the extensions that the request asked for, none of which was taken over.
    """

    not_taken: tuple[str, ...]


def init(
    directory: Path,
    cn: str,
    *,
    intermediate: str | None = None,
    kind: KeyKind = KeyKind.P256,
    days: int = profiles.CA_DAYS,
    subject: SubjectFields | None = None,
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> Issued:
    """Make a root CA: `ca-private.key` and `ca-cert.pem`. A CA that is there is never overwritten.

    With `intermediate` the root lies in the folder `root`, which can be taken offline as a whole, and the directory
    holds an intermediate CA in the same files, with `ca-chain.pem`: its certificate and the root's.

    Args:
        directory: Where; made if it is missing.
        cn: The common name. Give every CA its own: two of one name confuse those who verify.
        intermediate: The common name of the intermediate CA, if there shall be one.
        kind: The keys' kind.
        days: How long certificates are valid.
        subject: More of their names.
        passphrase: What to encrypt the keys with; not encrypted by default.
        now: The current time; the clock's by default.

    Returns:
        The CA that issues: the intermediate, if there is one.

    Raises:
        ExistsError: there is a CA, or a part of one, in the directory.
        ProfileError: a name or the number of days does not fit into a certificate.
        WriteError: the files cannot be written.
        IndexFileError: the index cannot be written.
    """
    validity = Validity(now or datetime.now(UTC), days)
    name = profiles.subject(cn, subject)
    key = keys.generate(kind)
    root = Signer(profiles.root_ca(key, name, validity, new_serial()), key)
    root_directory = directory if intermediate is None else directory / ROOT
    contents = _ca_files(root_directory, root, passphrase)
    records = {root_directory: [(root.certificate, Kind.ROOT, root_directory)]}
    issuing = root
    if intermediate is not None:
        name, key = profiles.subject(intermediate, subject), keys.generate(kind)
        certificate = profiles.intermediate_ca(
            key.public_key(), name, validity=validity, serial=new_serial(), signer=root
        )
        issuing = Signer(certificate, key)
        contents += [*_ca_files(directory, issuing, passphrase), chain_file(directory, certificate, root.certificate)]
        records[root_directory].append((certificate, Kind.INTERMEDIATE, directory))
        records[directory] = []
    _write_ca(contents, [where / INDEX for where in records])
    for where, made in records.items():
        with Index.open(where) as index:
            index.add(
                entries.entry(certificate, what, recorded_path(where, at / CA_CERTIFICATE))
                for certificate, what, at in made
            )
    return Issued(issuing.certificate, directory / CA_CERTIFICATE, directory / CA_KEY)


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
    passphrase: Passphrase | None = None,
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
        passphrase: Asked if the CA's key is encrypted.
        now: The current time; the clock's by default.

    Raises:
        SignerError: the CA is missing, damaged, expired, or devices would refuse what it signs.
        KeyFileError: the CA's key cannot be read.
        ExistsError: without `replace`, a key or certificate is there already.
        ProfileError: a name or the number of days does not fit into a certificate.
        WriteError: the files cannot be written.
        IndexFileError: the index cannot be written.
    """
    now = now or datetime.now(UTC)
    ca = signer.load(directory, now, passphrase)
    signer.require_signs_servers(ca.certificate, directory)
    name = profiles.subject(cn, subject)
    key = keys.generate(kind)
    certificate = profiles.server(
        key.public_key(), name, san, validity=Validity(now, days), serial=new_serial(), signer=ca
    )
    target = out or directory
    issued = Issued(certificate, target / SERVER_CERTIFICATE, target / SERVER_KEY)
    record_and_write(directory, ca, issued, Kind.SERVER, now=now, key=(issued.key_path, key), replace=replace)
    return issued


def issue_device(
    directory: Path,
    cn: str,
    *,
    san: Iterable[str] = (),
    out: Path | None = None,
    kind: KeyKind = KeyKind.P256,
    days: int = profiles.DEVICE_DAYS,
    subject: SubjectFields | None = None,
    again: bool = False,
    replace: bool = False,
    passphrase: Passphrase | None = None,
    now: datetime | None = None,
) -> Issued:
    """Issue a device's certificate: `device-private.key` and `device-cert.pem`.

    Args:
        directory: Where the CA is.
        cn: The device's own name, unlike every other device's.
        san: More names: `DNS:name`, `IP:address`, `URI:uri`.
        out: The directory to write to, made if it is missing; `directory` by default.
        kind: The key's kind.
        days: How long it is valid.
        subject: More of its name.
        again: Whether it may have the subject of a good certificate: it is the same device.
        replace: Whether to replace a key and certificate that are there.
        passphrase: Asked if the CA's key is encrypted.
        now: The current time; the clock's by default.

    Raises:
        SignerError: the CA is missing, damaged or expired.
        KeyFileError: the CA's key cannot be read.
        ConflictError: without `again`, there is a good certificate of this subject.
        ExistsError: without `replace`, a key or certificate is there already.
        ProfileError: the name or the number of days does not fit into a certificate.
        WriteError: the files cannot be written.
        IndexFileError: the index cannot be written.
    """
    now = now or datetime.now(UTC)
    ca = signer.load(directory, now, passphrase)
    name = profiles.subject(cn, subject)
    key = keys.generate(kind)
    certificate = profiles.device(
        key.public_key(), name, san, validity=Validity(now, days), serial=new_serial(), signer=ca
    )
    target = out or directory
    issued = Issued(certificate, target / DEVICE_CERTIFICATE, target / DEVICE_KEY)
    claim = Claim.AGAIN if again else Claim.NEW
    record_and_write(
        directory, ca, issued, Kind.DEVICE, now=now, claim=claim, key=(issued.key_path, key), replace=replace
    )
    return issued


def sign(
    directory: Path,
    request_path: Path,
    *,
    cn: str | None = None,
    kind: Kind = Kind.DEVICE,
    san: Iterable[str] = (),
    out: Path | None = None,
    days: int | None = None,
    subject: SubjectFields | None = None,
    again: bool = False,
    replace: bool = False,
    passphrase: Passphrase | None = None,
    now: datetime | None = None,
) -> Signed:
    """Sign a request (CSR) made where the private key is: `device-cert.req` becomes `device-cert.pem`.

    Of the request only the key is trusted, and the subject unless `cn` is given; extensions it asks for are not taken.

    Args:
        directory: Where the CA is.
        request_path: The request, PEM or DER.
        cn: Common name, in place of the request's whole subject.
        kind: `DEVICE` or `SERVER`.
        san: Names beside the common name.
        out: The directory to write to, made if it is missing; `directory` by default.
        days: How long it is valid; by default as long as others of the kind.
        subject: More of the name; needs `cn`.
        again: Whether it may have the subject of a good certificate: it is the same device.
        replace: Whether to replace a certificate that is there.
        passphrase: Asked if the CA's key is encrypted.
        now: The current time; the clock's by default.

    Raises:
        RequestError: the request is damaged, not signed by its own key, has a weak key or the CA's, or no usable
            subject.
        ConflictError: its key is another device's, a CA's or an edge proxy's, or was compromised; or, without `again`,
            there is a good certificate of this subject.
        SignerError, KeyFileError, ExistsError, ProfileError, WriteError, IndexFileError: as the others.
    """
    now = now or datetime.now(UTC)
    ca = signer.load(directory, now, passphrase)
    request = load_request(request_path)
    require_foreign(request, ca.certificate, str(request_path))
    name = require_subject(request, str(request_path)) if cn is None else profiles.subject(cn, subject)
    if kind is Kind.SERVER:
        signer.require_signs_servers(ca.certificate, directory)
        validity = Validity(now, days or profiles.SERVER_DAYS)
        certificate = profiles.server(request.public_key, name, san, validity=validity, serial=new_serial(), signer=ca)
    else:
        validity = Validity(now, days or profiles.DEVICE_DAYS)
        certificate = profiles.device(request.public_key, name, san, validity=validity, serial=new_serial(), signer=ca)
    signed = Signed(certificate, (out or directory) / certificate_name(request_path), request.extensions)
    claim = Claim.AGAIN if again else Claim.NEW
    record_and_write(directory, ca, signed, kind, now=now, claim=claim, key=None, replace=replace)
    return signed


def certificate_name(request: Path) -> str:
    """What the certificate for a request is called: `device-cert.req` gives `device-cert.pem`."""
    if request.suffix in {".req", ".csr", ".p10", ".der"}:
        return f"{request.stem}.pem"
    return f"{request.stem}-cert.pem"


def _write_ca(contents: Sequence[Content], indices: Iterable[Path]) -> None:
    try:
        for path in indices:
            if path.exists():  # of a CA whose files are gone
                raise ExistsError(f"{path} is there already")
        make_directories(contents)
        write_together(contents, replace=False)
    except ExistsError as error:
        raise ExistsError(
            f"{error.what}; every certificate of a CA depends on its key, so a CA is never overwritten",
            "Use this CA, or make the new one in another directory.",
        ) from error


def _ca_files(directory: Path, ca: Signer, passphrase: bytes | None) -> list[Content]:
    return [
        Content(directory / CA_KEY, keys.private_pem(ca.key, passphrase), 0o600),
        Content(directory / CA_CERTIFICATE, ca.certificate.public_bytes(Encoding.PEM), 0o644),
    ]

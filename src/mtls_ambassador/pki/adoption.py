"""Taking over a CA that openssl made, with what it issued and revoked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.errors import Error
from mtls_ambassador.files import Content, ExistsError, write_together
from mtls_ambassador.pki import entries, pem, revocation, signature, signer
from mtls_ambassador.pki.entries import Entry, Kind, Reason, Revocation
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.issuing import make_directories, recorded_path
from mtls_ambassador.pki.keys import Passphrase
from mtls_ambassador.pki.path import title
from mtls_ambassador.pki.pem import Content as Held
from mtls_ambassador.pki.signer import CA_CERTIFICATE, CA_KEY

_SUFFIXES = {".pem", ".crt", ".cer", ".der"}
_LARGEST = 1 << 20  # bytes of a certificate's file
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class AdoptionError(Error):
    """A CA cannot be taken over as it is."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that did not come on record.

    Attributes:
        where: The file, or its line.
        why: Why not.
    """

    where: str
    why: str


@dataclass(frozen=True)
class Adopted:
    """What was taken over.

    Attributes:
        certificate: The CA's.
        certificates: How many issued certificates are new in the index.
        revocations: How many revoked serial numbers are new in the index.
        number: The CRL number that the next list will be above.
        left_out: What was found and did not come on record.
    """

    certificate: x509.Certificate
    certificates: int
    revocations: int
    number: int
    left_out: Sequence[LeftOut]


def adopt(
    directory: Path,
    *,
    certificate_path: Path | None = None,
    key_path: Path | None = None,
    issued: Iterable[Path] = (),
    crls: Iterable[Path] = (),
    database: Path | None = None,
    passphrase: Passphrase | None = None,
) -> Adopted:
    """Take a CA over, as it is: nothing of it is changed, and it may be done again at any time.

    Args:
        directory: Its folder; the certificates of the CA's that lie in it are found by themselves, and `ca.crl` too.
        certificate_path: Where its certificate is, to be copied into the folder as `ca-cert.pem`.
        key_path: Where its private key is, to be copied there as `ca-private.key`.
        issued: Files, and folders of files, of certificates that it issued.
        crls: Its revocation lists, PEM or DER.
        database: The `index.txt` of `openssl ca`.
        passphrase: Asked if the CA's key is encrypted.

    Raises:
        SignerError: the CA is missing, damaged, or is none.
        KeyFileError: its key cannot be read.
        AdoptionError: only one of certificate and key is given; a database cannot be read; a folder is missing.
        RevocationError: a list cannot be read, or is not this CA's.
        ExistsError: a CA is to be copied into a folder that has another.
        IndexFileError, WriteError: the files cannot be written.
    """
    if certificate_path or key_path:
        _copy(directory, certificate_path, key_path, passphrase)
        ca = signer.read_certificate(directory)
    else:
        ca = signer.read(directory, passphrase).certificate
    found = _Found(directory, ca)
    found.add_certificate(directory / CA_CERTIFICATE)
    for path in (directory, *issued):
        found.add_path(path)
    own = directory / revocation.CRL
    for path in (*([own] if own.exists() else []), *crls):
        found.add_list(path)
    if database is not None:
        found.add_database(database)
    with Index.open(directory) as index:
        known = {each.serial: each for each in index.entries()}
        revoked = {each.serial for each in index.revocations()}
        certificates = [each for serial, each in found.certificates.items() if serial not in known]
        found.require_same(known)
        revocations = [each for serial, each in found.revocations.items() if serial not in revoked]
        index.add(certificates)
        index.revoke(revocations)
        if found.number > index.crl_number():
            index.next_crl_number(at_least=found.number)
        number = index.crl_number()
    left_out = (*dict.fromkeys(found.left_out), *found.without_certificate({*known, *found.certificates}))
    return Adopted(ca, len(certificates), len(revocations), number, left_out)


class _Found:
    """Collects what a CA issued and revoked, each serial number once."""

    def __init__(self, directory: Path, ca: x509.Certificate) -> None:
        self._directory = directory
        self._ca = ca
        self.certificates: dict[str, Entry] = {}
        self.revocations: dict[str, Revocation] = {}
        self.left_out: list[LeftOut] = []
        self.number = 0
        self._listed: list[tuple[str, str]] = []

    def add_path(self, path: Path) -> None:
        if path.is_dir():
            for file in sorted(path.iterdir()):
                if file.suffix in _SUFFIXES and file.is_file():
                    self.add_certificate(file)
        elif path.exists():
            self.add_certificate(path)
        else:
            raise AdoptionError(f"{path} is missing", "Name a certificate's file or a folder of them.")

    def add_certificate(self, path: Path) -> None:
        """Take the certificates in a file, PEM or DER, that the CA issued."""
        try:
            if path.stat().st_size > _LARGEST:
                self._leave(path, f"it is larger than {_LARGEST} bytes, too large for a certificate's file")
                return
            blocks = pem.blocks(path.read_bytes(), str(path))
        except OSError as error:
            self._leave(path, f"it cannot be read: {error.strerror}")
            return
        except pem.PemError as error:
            self._leave(path, error.what)
            return
        # Keys, requests and lists are none of what was issued.
        for number, block in enumerate(each for each in blocks if each.content is Held.CERTIFICATE):
            self._add(path, block.der, is_first=number == 0)

    def _add(self, path: Path, der: bytes, *, is_first: bool) -> None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            if certificate.issuer != self._ca.subject:
                if is_first and certificate != self._ca:  # after the first there are those above it
                    self._leave(path, f"{title(certificate)} was issued by another CA, {_name(certificate.issuer)}")
                return
            signature.verify(certificate, self._ca)
            kind = entries.kind_of(certificate, path.name)
            entry = entries.entry(certificate, kind, recorded_path(self._directory, path))
        except InvalidSignature:
            self._leave(path, "it names this CA as its issuer, and does not carry its signature")
            return
        except _UNREADABLE as error:
            self._leave(path, f"it holds a certificate that cannot be read: {error}")
            return
        if entry.kind is Kind.ROOT and certificate != self._ca:
            self._leave(path, f"{title(certificate)} is a certificate of the CA itself, and not the one that is used")
            return
        first = self.certificates.setdefault(entry.serial, entry)
        if first.fingerprint != entry.fingerprint:
            self._leave_twin(path, entry, first)

    def require_same(self, known: Mapping[str, Entry]) -> None:
        """Tell what has the serial number of another certificate that is on record."""
        for serial, entry in self.certificates.items():
            if serial in known and known[serial].fingerprint != entry.fingerprint:
                self._leave_twin(self._directory / entry.path, entry, known[serial])

    def without_certificate(self, serials: AbstractSet[str]) -> Iterator[LeftOut]:
        """What the database lists of which no certificate was found, nor anything else on record."""
        for where, serial in self._listed:
            if serial not in serials:
                why = f"there is no certificate of the serial number {serial}; give it with --issued"
                yield LeftOut(where, why)

    def _leave(self, path: Path, why: str) -> None:
        self.left_out.append(LeftOut(str(path), why))

    def _leave_twin(self, path: Path, entry: Entry, first: Entry) -> None:
        self._leave(
            path,
            f"{entry.subject or 'it'} has the serial number {entry.serial} of another certificate, {first.subject} "
            f"({first.path}): what revokes one revokes both, so issue it anew",
        )

    def add_list(self, path: Path) -> None:
        crl = revocation.read_crl(path)
        if crl.issuer != self._ca.subject or not revocation.is_signed(crl, self._ca):
            raise revocation.RevocationError(
                f"{path} is not a revocation list of {self._ca.subject.rfc4514_string()}",
                "Give the lists of the CA that is taken over.",
            )
        self.number = max(self.number, revocation.number_of(crl))
        for each in revocation.revocations_in(crl):
            self.revocations.setdefault(each.serial, each)

    def add_database(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise AdoptionError(
                f"cannot read openssl's database {path}: {error.strerror}", "Name the index.txt of `openssl ca`."
            ) from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    serial, revoked = _database_line(line)
                except ValueError as error:
                    raise AdoptionError(
                        f"{path}, line {number}: {error}", "Give the index.txt of `openssl ca`, unchanged."
                    ) from error
                if revoked is not None:
                    self.revocations.setdefault(serial, revoked)
                self._listed.append((f"{path}, line {number}", serial))
        self._add_newcerts(path.parent / "newcerts", lines)
        self._add_crl_number(path.parent / "crlnumber")

    def _add_newcerts(self, folder: Path, lines: Iterable[str]) -> None:
        for line in lines:
            fields = line.split("\t")
            if len(fields) > 3 and (file := folder / f"{fields[3]}.pem").is_file():
                self.add_certificate(file)

    def _add_crl_number(self, path: Path) -> None:
        if path.is_file():
            text = path.read_text(encoding="ascii", errors="replace").strip()
            if all(digit in "0123456789abcdefABCDEF" for digit in text) and text:
                self.number = max(self.number, int(text, 16) - 1)  # openssl keeps the next one


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "without a name"


def _database_line(line: str) -> tuple[str, Revocation | None]:
    # "R", expiry, "YYMMDDHHMMSSZ,reason", serial, file, subject: openssl-ca(1), DB_* in its apps/include/apps.h
    fields = line.split("\t")
    if len(fields) != 6 or fields[0] not in {"V", "R", "E"}:
        raise ValueError("is not a line of openssl's database (six fields, the first V, R or E)")
    serial = entries.serial_text(int(fields[3], 16))
    if fields[0] != "R":
        return serial, None
    moment, _, reason = fields[2].partition(",")
    form = "%y%m%d%H%M%SZ" if len(moment) == 13 else "%Y%m%d%H%M%SZ"
    at = datetime.strptime(moment, form).replace(tzinfo=UTC)
    name = reason.partition(",")[0]
    names = {each.value.lower(): each for each in Reason}
    return serial, Revocation(serial, at, names.get(name.lower(), Reason.UNSPECIFIED))


def _copy(directory: Path, certificate_path: Path | None, key_path: Path | None, passphrase: Passphrase | None) -> None:
    if certificate_path is None or key_path is None:
        raise AdoptionError(
            "a CA is a certificate and its key, and only one of the two is given", "Give --ca-cert and --ca-key."
        )
    ca = signer.read_pair(certificate_path, key_path, passphrase)
    contents = [
        Content(directory / CA_KEY, key_path.read_bytes(), 0o600),
        Content(directory / CA_CERTIFICATE, ca.certificate.public_bytes(Encoding.PEM), 0o644),
    ]
    if all(each.path.exists() and each.path.read_bytes() == each.data for each in contents):
        return
    make_directories(contents)
    try:
        write_together(contents, replace=False)
    except ExistsError as error:
        raise ExistsError(
            f"{error.what}; a CA is never overwritten",
            "Take the new one over in another folder, or leave --ca-cert and --ca-key out for the one that is there.",
        ) from error

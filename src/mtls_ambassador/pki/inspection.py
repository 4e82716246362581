"""`pki verify` on files: which lint fits what they hold, and what only files can have, such as a mode."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from mtls_ambassador.files import WriteError
from mtls_ambassador.pki import entries, keys, lint, pem, request, revocation, signer
from mtls_ambassador.pki import path as paths
from mtls_ambassador.pki.authority import SERVER_CERTIFICATE, SERVER_KEY
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.keys import KeyFileError, Passphrase, PassphraseMissingError
from mtls_ambassador.pki.lint import Finding, Severity
from mtls_ambassador.pki.pem import Content
from mtls_ambassador.pki.revoked import Sources
from mtls_ambassador.pki.signer import CA_CERTIFICATE, CA_CHAIN, CA_KEY
from mtls_ambassador.x509 import spki

_LARGEST = 1 << 26  # bytes


@dataclass(frozen=True)
class Inspection:
    """What is looked at, and by whose eyes.

    Attributes:
        now: The current time, with its zone.
        anchors: The trust bundle, DER; empty if there is none.
        host: Where devices connect, for a server's certificate.
        key: The private key that shall belong to the certificate.
        passphrase: Asked if a private key is encrypted.
        kind: What a certificate is for; by default as it looks itself.
        revoked: Who is asked what is revoked.
    """

    now: datetime
    anchors: tuple[bytes, ...] = ()
    host: str | None = None
    key: Path | None = None
    passphrase: Passphrase | None = None
    kind: Kind | None = None
    revoked: Sources = field(default_factory=Sources)


def read(path: Path) -> bytes:
    """A file that a person named.

    Raises:
        WriteError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise WriteError(
            f"cannot read {path}: {error.strerror}", "See that it exists and this user may read it."
        ) from error


def trust_bundle(directory: Path) -> tuple[bytes, ...]:
    """What the edge would be given as `tenant_ca_pem` of the CA in a folder; empty if there is none.

    Raises:
        PemError, WriteError: a file is damaged or cannot be read.
    """
    for name in (CA_CHAIN, CA_CERTIFICATE):
        if (directory / name).exists():
            return tuple(pem.certificates(read(directory / name), name))
    return ()


def authority(directory: Path, look: Inspection) -> dict[Path, list[Finding]]:
    """Everything of the CA in a folder: certificate, key, revocation list, and the server's certificate beside it.

    Raises:
        SignerError: there is no CA.
    """
    certificate = directory / CA_CERTIFICATE
    signer.read_certificate(directory)
    found = {certificate: [*_authority(certificate, look), *_revoked(certificate, look)]}
    if (directory / CA_KEY).exists():
        found[directory / CA_KEY] = _key_of(certificate, directory / CA_KEY, look)
    if (directory / revocation.CRL).exists():
        found[directory / revocation.CRL] = _crl(directory / revocation.CRL, look)
    if (directory / SERVER_CERTIFICATE).exists():
        found[directory / SERVER_CERTIFICATE] = file(directory / SERVER_CERTIFICATE, look)
        if (directory / SERVER_KEY).exists():
            found[directory / SERVER_KEY] = _key_of(directory / SERVER_CERTIFICATE, directory / SERVER_KEY, look)
    return found


def file(path: Path, look: Inspection) -> list[Finding]:
    """Any one file.

    Raises:
        PemError, WriteError: it is damaged, holds nothing of a PKI, or cannot be read.
        RevocationError, IndexFileError: what says who is revoked cannot be read.
    """
    blocks = [block for block in pem.blocks(read(path), str(path)) if block.content is not Content.OTHER]
    contents = {block.content for block in blocks}
    if Content.CERTIFICATE in contents:
        found = [*_certificates(path, look), *_revoked(path, look)]
        return found + (_key_of(path, look.key, look) if look.key else [])
    if Content.REQUEST in contents:
        return _request(path)
    if Content.CRL in contents:
        return _crl(path, look)
    if contents & {Content.PRIVATE_KEY, Content.ENCRYPTED_KEY}:
        return _private_key(path, look)
    raise pem.PemError(f"{path} holds nothing that can be verified", "Give a certificate, key, request or CRL.")


def _certificates(path: Path, look: Inspection) -> list[Finding]:
    chain = pem.certificates(read(path), str(path))
    kind = look.kind
    if kind is None:
        try:
            kind = entries.kind_of(lint.read(chain[0]), path.name)
        except lint.UnreadableError as error:
            return [error.finding]
    if kind in {Kind.ROOT, Kind.INTERMEDIATE}:
        return _authority(path, look)
    if kind is Kind.SERVER:
        return lint.server(chain, look.anchors, look.now, host=look.host)
    if not look.anchors:
        what = "there is no CA to verify the device's certificate with"
        return [Finding(Severity.ERROR, "no_ca", what, "Name the edge's tenant_ca_pem with --ca.")]
    return lint.device(chain, look.anchors, look.now)


def _authority(path: Path, look: Inspection) -> list[Finding]:
    return [
        finding
        for certificate in pem.certificates(read(path), str(path))
        for finding in lint.authority(certificate, look.now)
    ]


def _revoked(path: Path, look: Inspection) -> list[Finding]:
    first, *sent = (_parsed(each) for each in pem.certificates(read(path), str(path)))
    if first is None:  # nobody reads it, which is told already
        return []
    beside, bundle = [each for each in sent if each], [ca for ca in map(_parsed, look.anchors) if ca]
    on_the_way = paths.build(first, beside, bundle).certificates
    return list(look.revoked.findings(on_the_way, [*bundle, *beside]))


def _key_of(certificate: Path, key: Path, look: Inspection) -> list[Finding]:
    try:
        private = keys.load_private_key(key, look.passphrase)
    except PassphraseMissingError as error:
        return [Finding(Severity.WARNING, "key_not_checked", error.what, error.remedy)]
    except KeyFileError as error:
        return [Finding(Severity.ERROR, "key_unreadable", error.what, error.remedy)]
    first = pem.certificates(read(certificate), str(certificate))[0]
    return [*lint.key_of(first, spki(private.public_key())), *_mode(key)]


def _private_key(path: Path, look: Inspection) -> list[Finding]:
    try:
        key = keys.load_private_key(path, look.passphrase)
    except PassphraseMissingError as error:
        return [Finding(Severity.WARNING, "key_not_checked", error.what, error.remedy)]
    except KeyFileError as error:
        return [Finding(Severity.ERROR, "key_unreadable", error.what, error.remedy)]
    found = []
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < request.SMALLEST_RSA:
        what = f"{path} is an RSA key of {key.key_size} bits"
        found.append(Finding(Severity.WARNING, "weak_key", what, "Make a new key, best on P-256."))
    return [*found, *_mode(path)]


def _mode(path: Path) -> list[Finding]:
    if not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return []
    what = f"{path} may be read by others than its owner"
    return [Finding(Severity.WARNING, "key_readable", what, f"chmod 0600 {path}")]


def _crl(path: Path, look: Inspection) -> list[Finding]:
    crl = revocation.read_crl(path)
    issuers = [ca for ca in (_parsed(each) for each in look.anchors) if ca and ca.subject == crl.issuer]
    found = []
    if look.anchors and not issuers:
        what = f"{path} is the list of {crl.issuer.rfc4514_string()}, which is not in the trust bundle"
        found.append(Finding(Severity.ERROR, "unknown_ca", what, "Give the list of the CA that signs your devices."))
    elif issuers and not any(revocation.is_signed(crl, ca) for ca in issuers):
        what = f"{path} does not carry the signature of {crl.issuer.rfc4514_string()}"
        found.append(Finding(Severity.ERROR, "bad_signature", what, "Write it anew: mtls-ambassador pki crl"))
    if crl.last_update_utc > look.now:
        what = f"{path} is not valid before {crl.last_update_utc:%Y-%m-%d %H:%M} UTC"
        found.append(Finding(Severity.ERROR, "crl_not_yet_valid", what, "See that the clock of this machine is right."))
    if crl.next_update_utc is None:
        what = f"{path} has no next update: nobody sees when it is stale"
        found.append(Finding(Severity.WARNING, "no_next_update", what, "Write it anew: mtls-ambassador pki crl"))
    elif crl.next_update_utc < look.now:
        what = f"{path} expired on {crl.next_update_utc:%Y-%m-%d %H:%M} UTC"
        found.append(Finding(Severity.ERROR, "crl_expired", what, "Write it anew: mtls-ambassador pki crl"))
    return found


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        return lint.read(der)
    except lint.UnreadableError:
        return None


def _request(path: Path) -> list[Finding]:
    try:
        request.require_subject(request.load_request(path), str(path))
    except request.RequestError as error:
        return [Finding(Severity.ERROR, "bad_request", error.what, error.remedy)]
    return []

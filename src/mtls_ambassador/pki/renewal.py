"""Renewing: a certificate is issued anew, for the same subject."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mtls_ambassador.pki import entries, keys, profiles, signer
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.issuing import Certified, Claim, chain_file, new_serial, record_and_write
from mtls_ambassador.pki.keys import KeyKind, Passphrase, PublicKey
from mtls_ambassador.pki.path import usable_key
from mtls_ambassador.pki.profiles import Signer, Validity
from mtls_ambassador.pki.signer import CA_CERTIFICATE

_DAYS = {
    Kind.ROOT: profiles.CA_DAYS,
    Kind.INTERMEDIATE: profiles.CA_DAYS,
    Kind.SERVER: profiles.SERVER_DAYS,
    Kind.DEVICE: profiles.DEVICE_DAYS,
}


def _builder(
    kind: Kind, old: x509.Certificate, key: PublicKey, ca: Signer, validity: Validity
) -> Callable[[int], x509.Certificate]:
    names = profiles.names(old)
    match kind:
        case Kind.ROOT:
            return lambda serial: profiles.root_ca(ca.key, old.subject, validity, serial)
        case Kind.INTERMEDIATE:
            return lambda serial: profiles.intermediate_ca(
                key, old.subject, validity=validity, serial=serial, signer=ca
            )
        case Kind.SERVER:
            return lambda serial: profiles.server(key, old.subject, names, validity=validity, serial=serial, signer=ca)
        case Kind.DEVICE:
            return lambda serial: profiles.device(key, old.subject, names, validity=validity, serial=serial, signer=ca)


def _usable(certificate: x509.Certificate, directory: Path) -> PublicKey:
    key = certificate.public_key()
    if not isinstance(key, PublicKey) or not usable_key(certificate):
        raise signer.SignerError(
            f"the certificate {certificate.subject.rfc4514_string()} of {directory} has a key of a kind that the edge "
            "proxy cannot verify",
            "Renew it with a new key.",
        )
    return key


def _put_on_record(directory: Path, old: x509.Certificate, kind: Kind) -> None:
    # So that what was revoked by its mere number, as an adopted list has it, tells of a key.
    with Index.open(directory) as index:
        if index.find(entries.serial_text(old.serial_number)) is None:
            index.add([entries.entry(old, kind, "")])


def renew(
    directory: Path,
    old: x509.Certificate,
    kind: Kind,
    certificate_path: Path,
    *,
    new_key: tuple[Path, KeyKind] | None = None,
    days: int | None = None,
    replace: bool = False,
    passphrase: Passphrase | None = None,
    now: datetime | None = None,
) -> Certified:
    """Issue a certificate anew: same subject and names, a new serial number, from now on.

    The old one stays good until it expires or is revoked. A root is renewed with its own key, so that everything it
    ever signed stays good; what an old one lacks, such as its CA flag, the new one has.

    Args:
        directory: Where the CA is that issued it; for a root, its own.
        old: The certificate.
        kind: What it is for.
        certificate_path: Where to write the new one.
        new_key: Make a new key, of this kind, and write it there; the same key by default.
        days: How long it is valid; by default as long as others of the kind.
        replace: Whether to replace files that are there.
        passphrase: Asked if the CA's key is encrypted.
        now: The current time; the clock's by default.

    Raises:
        SignerError: the CA did not issue it; or as the others.
        ConflictError: it keeps its key, and that was compromised, or is another kind's.
        KeyFileError, ExistsError, ProfileError, WriteError, IndexFileError: as the others.
    """
    now = now or datetime.now(UTC)
    if kind in {Kind.ROOT, Kind.INTERMEDIATE} and new_key is not None:
        raise signer.SignerError(
            "a CA with a new key is a new CA: nothing that the old one signed would verify",
            "Renew it with its own key, or make another CA with: mtls-ambassador pki init",
        )
    ca = signer.read(directory, passphrase) if kind is Kind.ROOT else signer.load(directory, now, passphrase)
    signer.require_issued(ca.certificate, old, directory)
    key = keys.generate(new_key[1]) if new_key else None
    public_key = key.public_key() if key else _usable(old, directory)
    build = _builder(kind, old, public_key, ca, Validity(now, days or _DAYS[kind]))
    certificate = build(new_serial())
    _put_on_record(directory, old, kind)
    renewed = Certified(certificate, certificate_path)
    more = []
    if kind is Kind.INTERMEDIATE and certificate_path.name == CA_CERTIFICATE:  # in that CA's own folder
        more.append(chain_file(certificate_path.parent, certificate, ca.certificate, *ca.intermediates[1:]))
    record_and_write(
        directory,
        ca,
        renewed,
        kind,
        now=now,
        claim=Claim.RENEWAL,
        key=(new_key[0], key) if new_key and key else None,
        more=more,
        replace=replace,
    )
    return renewed

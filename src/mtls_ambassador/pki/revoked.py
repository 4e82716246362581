"""Whether a certificate is revoked, by the index of the CA that issued it or by revocation lists at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from mtls_ambassador.pki import entries, revocation, signature, signer
from mtls_ambassador.pki.entries import Entry, Revocation
from mtls_ambassador.pki.index import INDEX, Index
from mtls_ambassador.pki.lint import Finding, Severity
from mtls_ambassador.pki.path import title
from mtls_ambassador.pki.signer import CA_CERTIFICATE

_NEW_KEY = "Have another, with a new key: mtls-ambassador pki renew --new-key; of a CA: pki init"
_REJECT = "This version's edge reads no list: reject a device in Mender, too."


@dataclass(frozen=True)
class Sources:
    """Where it says what is revoked.

    Attributes:
        directory: A CA's folder, whose index is asked; there may be no CA in it.
        lists: Revocation lists, PEM or DER.
    """

    directory: Path | None = None
    lists: tuple[Path, ...] = ()

    def findings(
        self, certificates: Iterable[x509.Certificate], issuers: Iterable[x509.Certificate]
    ) -> Iterator[Finding]:
        """What is to be said of certificates.

        Args:
            certificates: Of one path.
            issuers: CAs whose lists are believed.

        Raises:
            IndexFileError, RevocationError: the index or a list cannot be read.
        """
        believed = tuple(issuers)
        read = [(path, revocation.read_crl(path)) for path in self.lists]
        for certificate in certificates:
            if (found := self._indexed(certificate)) is not None:
                yield found
                continue
            serial = entries.serial_text(certificate.serial_number)
            for path, crl in read:
                if any(_covers(crl, issuer, certificate) for issuer in believed):
                    yield from (
                        _revoked(certificate, each, path)
                        for each in revocation.revocations_in(crl)
                        if each.serial == serial
                    )

    def _indexed(self, certificate: x509.Certificate) -> Finding | None:
        if self.directory is None or not all((self.directory / name).exists() for name in (CA_CERTIFICATE, INDEX)):
            return None
        if not _issued(signer.read_certificate(self.directory), certificate):
            return None
        with Index.open(self.directory, writable=False) as index:
            found = index.revocation(entries.serial_text(certificate.serial_number))
            if found is not None:
                return _revoked(certificate, found, self.directory / INDEX)
            try:
                same_key = index.of_key(entries.key_text(certificate.public_key()))
            except (ValueError, UnsupportedAlgorithm):  # no key that was ever issued for
                return None
        return next((_compromised(certificate, other) for other in same_key if _is_compromised(other)), None)


def _revoked(certificate: x509.Certificate, found: Revocation, source: Path) -> Finding:
    what = f"{title(certificate)} is revoked since {found.at:%Y-%m-%d %H:%M} UTC ({found.reason}), says {source}"
    return Finding(Severity.ERROR, "revoked", what, f"{_NEW_KEY}. {_REJECT}")


def _compromised(certificate: x509.Certificate, other: Entry) -> Finding:
    assert other.revocation is not None  # noqa: S101
    what = f"{title(certificate)} has the key of serial {other.serial}, which was revoked for {other.revocation.reason}"
    return Finding(
        Severity.ERROR, "compromised_key", what, f"Revoke it, too: mtls-ambassador pki revoke. {_NEW_KEY}. {_REJECT}"
    )


def _is_compromised(entry: Entry) -> bool:
    return entry.revocation is not None and entry.revocation.reason.is_compromise


def _covers(crl: x509.CertificateRevocationList, issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    return crl.issuer == issuer.subject and _issued(issuer, certificate) and revocation.is_signed(crl, issuer)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        signature.issued(certificate, issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True

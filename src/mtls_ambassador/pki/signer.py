"""Reading a CA from its directory, and judging whether it can sign."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from mtls_ambassador.errors import Error
from mtls_ambassador.pki import keys, signature
from mtls_ambassador.pki.keys import Passphrase
from mtls_ambassador.pki.profiles import Signer

CA_KEY, CA_CERTIFICATE = "ca-private.key", "ca-cert.pem"
CA_CHAIN = "ca-chain.pem"
"""Of an intermediate CA only: its certificate and the root's, the bundle for the edge and for devices."""


class SignerError(Error):
    """The CA in a directory is missing, damaged, expired or not able to sign."""


def load(directory: Path, now: datetime, passphrase: Passphrase | None = None) -> Signer:
    """The CA in `directory`, made by `authority.init` or by openssl, X.509 version 1 included.

    Args:
        directory: Holds `ca-private.key` and `ca-cert.pem`; an intermediate CA's also `ca-chain.pem`.
        now: The current time, with its zone.
        passphrase: Asked if the CA's key is encrypted.

    Raises:
        SignerError: a file is missing, the certificate is damaged, out of its validity or no CA's, or the key is not
            the certificate's.
        KeyFileError: the key is unreadable, not opened by the passphrase, or of a kind that the edge proxy cannot
            verify.
    """
    ca = read(directory, passphrase)
    _require_valid(ca.certificate, directory / CA_CERTIFICATE, now)
    return ca


def read(directory: Path, passphrase: Passphrase | None = None) -> Signer:
    """The same, though it may be out of its validity: to renew it.

    Raises:
        SignerError: a file is missing, the certificate is damaged or no CA's, or the key is not the certificate's.
        KeyFileError: as above.
    """
    certificate_path, key_path = directory / CA_CERTIFICATE, directory / CA_KEY
    ca = read_pair(certificate_path, key_path, passphrase)
    return replace(ca, intermediates=_intermediates(ca.certificate, directory / CA_CHAIN))


def read_pair(certificate_path: Path, key_path: Path, passphrase: Passphrase | None = None) -> Signer:
    """The same, from any two files.

    Raises:
        SignerError: a file is missing, the certificate is damaged or no CA's, or the key is not the certificate's.
        KeyFileError: as above.
    """
    for path in (certificate_path, key_path):
        if not path.exists():
            raise _missing(path)
    certificate = _load_certificates(certificate_path)[0]
    _require_may_sign(certificate, certificate_path)
    key = keys.load_private_key(key_path, passphrase)
    if certificate.public_key() != key.public_key():
        raise SignerError(
            f"{key_path} is not the key of {certificate_path}",
            "Put the two files that were made together side by side, from your backup.",
        )
    return Signer(certificate, key)


def read_certificate(directory: Path) -> x509.Certificate:
    """The certificate of the CA in `directory`, for which no key is needed.

    Raises:
        SignerError: the file is missing or holds no certificate.
    """
    path = directory / CA_CERTIFICATE
    if not path.exists():
        raise _missing(path)
    return _load_certificates(path)[0]


def require_signs_lists(certificate: x509.Certificate, directory: Path) -> None:
    """Check that the edge will accept a revocation list of this CA (RFC 5280 section 4.2.1.3: cRLSign).

    Raises:
        SignerError: it will not.
    """
    usage = _key_usage(certificate)
    if usage is not None and not usage.crl_sign:
        raise SignerError(
            f"the key usage of {directory / CA_CERTIFICATE} forbids it to sign revocation lists (no cRLSign)",
            "Renew it with its own key, which adds that: mtls-ambassador pki renew ca-cert.pem --replace",
        )


def require_issued(ca: x509.Certificate, certificate: x509.Certificate, directory: Path) -> None:
    """Check that a CA signed a certificate.

    Raises:
        SignerError: it did not.
    """
    try:
        signature.issued(certificate, ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise SignerError(
            f"the CA in {directory} ({ca.subject.rfc4514_string()}) did not issue "
            f"{certificate.subject.rfc4514_string() or 'this certificate'}",
            f"Name the folder of its issuer with --dir: {certificate.issuer.rfc4514_string()}",
        ) from error


def _missing(path: Path) -> SignerError:
    return SignerError(
        f"{path} is missing: there is no CA in this directory that could sign",
        "Name the CA's directory, or make a CA first with: mtls-ambassador pki init",
    )


def require_signs_servers(certificate: x509.Certificate, directory: Path) -> None:
    """Check that devices will accept a server certificate of this CA.

    RFC 5280 section 4.2.1.9: the key of a version 3 certificate without basicConstraints verifies no certificates.
    openssl from 3.2 on makes such CAs when its configuration names no extensions. Envoy takes one as trust anchor for
    device certificates, but the OpenSSL in the Mender client does not take it for the server's.

    Raises:
        SignerError: they will not.
    """
    if certificate.version is x509.Version.v1 or _ca_flag(certificate):
        return
    raise SignerError(
        f"{directory / CA_CERTIFICATE} lacks basicConstraints CA:TRUE: devices would refuse every server it signs",
        "Renew it with its own key, which adds that: mtls-ambassador pki renew ca-cert.pem --replace; with openssl, "
        "add to `openssl req -new -x509 ...`: -addext basicConstraints=critical,CA:TRUE",
    )


def _intermediates(certificate: x509.Certificate, chain: Path) -> tuple[x509.Certificate, ...]:
    if certificate.subject == certificate.issuer:
        return ()
    above = _load_certificates(chain) if chain.exists() else []
    return (certificate, *(each for each in above if each.subject != each.issuer and each != certificate))


def _load_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise SignerError(
            f"cannot read the CA certificate {path}: {error.strerror}", "See that this user may read it."
        ) from error
    except ValueError as error:
        raise SignerError(
            f"{path} holds no certificate in PEM form", f"Look at it with: openssl x509 -in {path} -noout -text"
        ) from error


def _require_valid(certificate: x509.Certificate, path: Path, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise SignerError(
            f"the CA certificate {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
            "Renew it with its own key, and every certificate it signed stays good: "
            "mtls-ambassador pki renew ca-cert.pem --replace",
        )
    if now < certificate.not_valid_before_utc:
        raise SignerError(
            f"the CA certificate {path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            f"See that the clock of this machine is right; it says {now:%Y-%m-%d %H:%M} UTC.",
        )


def _require_may_sign(certificate: x509.Certificate, path: Path) -> None:
    usage = _key_usage(certificate)
    if _ca_flag(certificate) is False or (usage is not None and not usage.key_cert_sign):
        raise SignerError(
            f"{path} is not a CA's certificate: its extensions forbid it to sign others",
            "Put the CA's own certificate there, or make a CA with: mtls-ambassador pki init",
        )


def _ca_flag(certificate: x509.Certificate) -> bool | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return None


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None

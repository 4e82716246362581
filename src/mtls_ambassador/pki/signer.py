"""Reading a CA from its directory, and judging whether it can sign."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509

from mtls_ambassador.errors import Error
from mtls_ambassador.pki import keys
from mtls_ambassador.pki.profiles import Signer

CA_KEY, CA_CERTIFICATE = "ca-private.key", "ca-cert.pem"


class SignerError(Error):
    """The CA in a directory is missing, damaged, expired or not able to sign."""


def load(directory: Path, now: datetime) -> Signer:
    """The CA in `directory`, made by `authority.init` or by openssl, X.509 version 1 included.

    Args:
        directory: Holds `ca-private.key` and `ca-cert.pem`.
        now: The current time, with its zone.

    Raises:
        SignerError: a file is missing, the certificate is damaged, out of its validity or no CA's, or the key is not
            the certificate's.
        KeyFileError: the key is unreadable, encrypted, or of a kind that the edge proxy cannot verify.
    """
    key_path, certificate_path = directory / CA_KEY, directory / CA_CERTIFICATE
    for path in (certificate_path, key_path):
        if not path.exists():
            raise SignerError(
                f"{path} is missing: there is no CA in this directory that could sign",
                "Name the CA's directory, or make a CA first with: mtls-ambassador pki init",
            )
    certificate = _load_certificate(certificate_path)
    key = keys.load_private_key(key_path)
    if certificate.public_key() != key.public_key():
        raise SignerError(
            f"{key_path} is not the key of {certificate_path}",
            "Put the two files that were made together side by side, from your backup.",
        )
    _require_valid(certificate, certificate_path, now)
    _require_may_sign(certificate, certificate_path)
    return Signer(certificate, key)


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
        "Renew it with its own key and subject, adding to `openssl req -new -x509 ...`: "
        "-addext basicConstraints=critical,CA:TRUE",
    )


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
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
            "Renew it with its own key and subject, and every certificate it signed stays good; "
            "or make a new CA in another directory with: mtls-ambassador pki init",
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

"""What a device gets (certificate, key, CA, tenant token), read here and judged before it goes anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mtls_ambassador.device.errors import MaterialError
from mtls_ambassador.pki import keys
from mtls_ambassador.x509 import spki

_LARGEST = 1 << 20  # bytes; a disk image given by mistake is not read to its end


@dataclass(frozen=True, slots=True)
class Credentials:
    """A device's certificate and private key.

    Attributes:
        certificate: The certificate file as it is: the leaf first, then perhaps intermediates.
        key: The private key file as it is, PEM, not encrypted; None where the key is in the device's PKCS #11 token.
        public_key: DER of its SubjectPublicKeyInfo: devices with the same one are the same to Mender.
    """

    certificate: bytes
    key: bytes | None = field(repr=False)
    public_key: bytes = field(repr=False)


def read_credentials(certificate: Path, key: Path | None) -> Credentials:
    """A certificate and its key.

    Raises:
        MaterialError: one cannot be read, the certificate is a CA's, or they do not belong together.
        KeyFileError: the key is encrypted, damaged, or of a kind the edge cannot verify.
    """
    data = _certificates(certificate, "certificate")
    leaf = _parsed(data, certificate)[0]
    if _is_ca(leaf):
        raise MaterialError(
            f"{certificate} is a CA's certificate, and the edge refuses those as devices",
            "Make one for the device: mtls-ambassador pki device --cn NAME.",
        )
    public_key = _public_key(leaf, certificate)
    if key is None:
        return Credentials(data, None, public_key)
    if spki(keys.load_private_key(key).public_key()) != public_key:
        raise MaterialError(
            f"the key {key} is not the key of the certificate {certificate}",
            "Give the key that the certificate was made for; of several in the file, the device's is the first.",
        )
    return Credentials(data, _read(key, "private key"), public_key)


def read_ca(path: Path) -> bytes:
    """The CA's certificate, for the device's trust store.

    Raises:
        MaterialError: it cannot be read or holds no certificate, or a private key.
    """
    return _certificates(path, "CA certificate")


def read_tenant_token(path: Path) -> str:
    """The token that Mender shows for a tenant.

    Raises:
        MaterialError: it cannot be read, or is not one line without blanks.
    """
    try:
        token = _read(path, "tenant token").decode().strip()
    except UnicodeDecodeError as error:
        raise MaterialError(f"cannot read the tenant token {path}: it is not text", "Check the path.") from error
    if not token or not token.isprintable() or " " in token:
        raise MaterialError(f"{path} holds no tenant token", "Put into it what Mender shows as the token, in one line.")
    return token


def _certificates(path: Path, what: str) -> bytes:
    data = _read(path, what)
    if b"PRIVATE KEY-----" in data:  # the file would be readable by everybody on the device
        raise MaterialError(f"the {what} {path} holds a private key", "Give a file with certificates alone.")
    _parsed(data, path)
    return data


def _parsed(data: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise MaterialError(
            f"{path} holds no certificate that can be read", f"Look at it with: openssl x509 -in {path} -noout -text"
        ) from error


def _public_key(certificate: x509.Certificate, path: Path) -> bytes:
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, keys.PublicKey):
        raise MaterialError(
            f"the certificate {path} has a key of a kind that the edge cannot verify",
            "Use P-256, P-384, P-521, RSA or Ed25519.",
        )
    return spki(public)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return False


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise MaterialError(
            f"cannot read the {what} {path}: {error.strerror}", "See that it exists and this user may read it."
        ) from error
    if len(data) > _LARGEST:
        raise MaterialError(f"the {what} {path} is larger than a megabyte", "Give a PEM file.")
    return data

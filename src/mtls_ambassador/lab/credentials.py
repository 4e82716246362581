"""What a simulated device proves itself with: the key that signs its auth requests, and its side of TLS."""

from __future__ import annotations

import os
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.auth_request import PrivateKey
from mtls_ambassador.pki import keys, profiles
from mtls_ambassador.pki.profiles import Signer, Validity

_DAYS = 1
"""How long a certificate of a device that never existed is good: longer than any simulation."""


class CredentialsError(Error):
    """A key or certificate of a simulated device cannot be used."""


@dataclass(frozen=True)
class Credentials:
    """The two halves.

    Attributes:
        key: Signs auth requests.
        tls: The client's side of TLS, with the certificate; about 25 kB each.
    """

    key: PrivateKey
    tls: ssl.SSLContext


def from_files(ca_file: Path | None, certificate: Path | None, key: Path, auth_key: Path | None = None) -> Credentials:
    """Credentials out of PEM files.

    Args:
        ca_file: What the server's certificate must chain to; None for the system's.
        certificate: The client certificate, leaf first; None for a device that has none.
        key: Its private key, without passphrase.
        auth_key: Signs auth requests, where that is another key.

    Raises:
        CredentialsError: a file is missing or not what it should be, or certificate and key do not fit.
    """
    signing = load_key(auth_key or key)
    context = _context()
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")  # an empty one, so that nobody is prompted
    except OSError as error:  # ssl.SSLError is one
        raise CredentialsError(f"cannot use {ca_file}, {certificate} and {key}: {error}") from error
    return Credentials(signing, context)


def issue(signer: Signer, cn: str, ca_pem: str | None) -> Credentials:
    """Credentials of a new device: a P-256 key and a certificate for it, which are written nowhere.

    Args:
        signer: The CA.
        cn: The device's own name.
        ca_pem: What the server's certificate must chain to; None for the system's.

    Raises:
        CredentialsError: `ca_pem` holds no certificate.
    """
    key = keys.generate()
    certificate = profiles.device(
        key.public_key(),
        profiles.subject(cn),
        validity=Validity(datetime.now(UTC), _DAYS),
        serial=1 << 127 | secrets.randbits(127),
        signer=signer,
    )
    context = _context()
    try:
        if ca_pem is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=ca_pem)
    except (OSError, ValueError) as error:
        raise CredentialsError(f"cannot use the server's CA: {error}") from error
    _load_chain(context, certificate.public_bytes(Encoding.PEM) + keys.private_pem(key))
    return Credentials(key, context)


def load_key(path: Path) -> PrivateKey:
    """Read a PEM private key of a type that Mender verifies.

    Raises:
        CredentialsError: the file cannot be read, is no unencrypted PEM key, or holds another type.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CredentialsError(f"cannot read the key {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CredentialsError(f"{path} is not a PEM private key without passphrase") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise CredentialsError(f"{path} is a {type(key).__name__}", "Use an RSA, ECDSA or Ed25519 key.")
    return key


def _context() -> ssl.SSLContext:
    # Not ssl.create_default_context(): since Python 3.13 it refuses certificates without the extensions that
    # `openssl x509 -req` leaves out, which Mender's clients accept.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """Load certificate and key through a file that only this process sees: Python's ssl takes nothing but a path."""
    memory = os.memfd_create("device", os.MFD_CLOEXEC)
    try:
        os.write(memory, pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)

"""Private keys encrypted to a recipient's certificate: OpenSSL CMS (RFC 5652), which `openssl cms -decrypt` opens.

A recipient needs an RSA key: that is all that `cryptography` envelopes to. The content is encrypted with AES-256-CBC
(RFC 3565), its key with RSA PKCS #1 v1.5 (RFC 3370). An envelope says nothing of who made it; that a key was not
exchanged on the way is seen by its certificate, whose signature is the CA's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7EnvelopeBuilder, PKCS7Options

from mtls_ambassador.factory.errors import BatchError
from mtls_ambassador.pki.request import SMALLEST_RSA

SUFFIX = ".cms"


def read_recipient(path: Path) -> x509.Certificate:
    """A recipient's certificate, PEM.

    Raises:
        BatchError: the file cannot be read, holds none, or its key is none that can be enveloped to.
    """
    make = (
        "Make one where keys may be read: openssl req -x509 -newkey rsa:3072 -subj '/CN=Provisioning' -days 3650 "
        "-keyout recipient.key -out recipient.pem"
    )
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = certificate.public_key()
    except OSError as error:
        raise BatchError(f"cannot read the recipient {path}: {error.strerror}", make) from error
    except ValueError as error:
        raise BatchError(f"the recipient {path} holds no certificate in PEM form", make) from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST_RSA:
        raise BatchError(f"the recipient {path} has no RSA key of at least {SMALLEST_RSA} bits", make)
    return certificate


def seal(data: bytes, recipients: Sequence[x509.Certificate]) -> bytes:
    """An envelope that each of the recipients can open, PEM.

    Args:
        data: What to encrypt.
        recipients: At least one, from `read_recipient`.
    """
    builder = PKCS7EnvelopeBuilder().set_data(data).set_content_encryption_algorithm(algorithms.AES256)
    for each in recipients:
        builder = builder.add_recipient(each)
    return builder.encrypt(Encoding.PEM, [PKCS7Options.Binary])

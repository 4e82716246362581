"""Whatever is in a file of the PKI, PEM or DER, ours or not: certificates, keys, requests, revocation lists."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from mtls_ambassador.errors import Error

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----", re.DOTALL)


class PemError(Error):
    """A file holds nothing that belongs to a PKI, or it is damaged."""


class Content(StrEnum):
    """What a block is."""

    CERTIFICATE = "certificate"
    REQUEST = "certificate request"
    CRL = "revocation list"
    PRIVATE_KEY = "private key"
    ENCRYPTED_KEY = "encrypted private key"
    PUBLIC_KEY = "public key"
    OTHER = "other"


@dataclass(frozen=True)
class Block:
    """One block of a file.

    Attributes:
        content: What it is.
        label: PEM's own word for it; empty for DER.
        der: Its bytes, which may be a private key's.
    """

    content: Content
    label: str
    der: bytes = field(repr=False)


_LABELS = {
    "CERTIFICATE": Content.CERTIFICATE,
    "X509 CERTIFICATE": Content.CERTIFICATE,
    "TRUSTED CERTIFICATE": Content.CERTIFICATE,
    "CERTIFICATE REQUEST": Content.REQUEST,
    "NEW CERTIFICATE REQUEST": Content.REQUEST,
    "X509 CRL": Content.CRL,
    "PRIVATE KEY": Content.PRIVATE_KEY,
    "EC PRIVATE KEY": Content.PRIVATE_KEY,
    "RSA PRIVATE KEY": Content.PRIVATE_KEY,
    "ENCRYPTED PRIVATE KEY": Content.ENCRYPTED_KEY,
    "PUBLIC KEY": Content.PUBLIC_KEY,
}


def blocks(data: bytes, name: str) -> list[Block]:
    """Everything in a file, in its order; PEM blocks that are none of ours (EC PARAMETERS) as `OTHER`.

    Args:
        data: The file's content.
        name: Its name, for errors.

    Raises:
        PemError: it holds nothing, or a block is damaged.
    """
    if b"-----BEGIN " not in data:
        return [_guess(data, name)]
    found = list(_pem(data, name))
    if not found:
        raise PemError(
            f"{name} is damaged: a PEM block begins in it and does not end",
            "Copy it again; the last line of a block begins with -----END.",
        )
    return found


def certificates(data: bytes, name: str) -> list[bytes]:
    """The certificates in a file, DER, however odd they are.

    Raises:
        PemError: there is none, or the file is damaged.
    """
    found = [block.der for block in blocks(data, name) if block.content is Content.CERTIFICATE]
    if not found:
        raise PemError(f"{name} holds no certificate", "Look at what it holds: mtls-ambassador pki show FILE")
    return found


def _pem(data: bytes, name: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(data):
        label, body = match.group(1).decode(), match.group(2)
        content = _LABELS.get(label, Content.OTHER)
        if b"ENCRYPTED" in body:  # openssl's older form, with headers in the block (RFC 1421)
            yield Block(Content.ENCRYPTED_KEY, label, b"")
            continue
        try:
            yield Block(content, label, base64.b64decode(b"".join(body.split()), validate=True))
        except binascii.Error as error:
            raise PemError(
                f"{name} is damaged: a block {label} is not base64", "Copy it again, as text, without any change."
            ) from error


def _guess(data: bytes, name: str) -> Block:
    for content, load in (
        (Content.CERTIFICATE, x509.load_der_x509_certificate),
        (Content.REQUEST, x509.load_der_x509_csr),
        (Content.CRL, x509.load_der_x509_crl),
        (Content.PUBLIC_KEY, load_der_public_key),
    ):
        try:
            load(data)
        except (ValueError, UnsupportedAlgorithm):
            continue
        return Block(content, "", data)
    try:
        load_der_private_key(data, None)
    except TypeError:
        return Block(Content.ENCRYPTED_KEY, "", b"")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PemError(
            f"{name} holds no certificate, key, request or revocation list, in PEM or in DER",
            "Look at it with: openssl asn1parse -in FILE (-inform DER)",
        ) from error
    return Block(Content.PRIVATE_KEY, "", data)

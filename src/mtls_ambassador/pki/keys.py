"""Private keys: kinds, generation, PEM files."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mtls_ambassador.errors import Error

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

Passphrase = Callable[[], bytes]
"""Asks for a key's passphrase; called only where a key turns out to be encrypted."""

_LARGEST_KEY_FILE = 1 << 20  # bytes; a device node or a disk image given by mistake is not read to its end
_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


class KeyFileError(Error):
    """A private key file is missing, unreadable or holds no key that the edge can use."""


class PassphraseMissingError(KeyFileError):
    """A key is encrypted, and nobody gave its passphrase."""


class KeyKind(StrEnum):
    """The kinds of keys that are generated; the edge proxy verifies all of them."""

    P256 = "p256"
    P384 = "p384"
    P521 = "p521"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


_CURVES: dict[KeyKind, ec.EllipticCurve] = {
    KeyKind.P256: ec.SECP256R1(),
    KeyKind.P384: ec.SECP384R1(),
    KeyKind.P521: ec.SECP521R1(),
}
CURVE_NAMES = frozenset(curve.name for curve in _CURVES.values())
"""Curves that the edge proxy verifies."""


def generate(kind: KeyKind = KeyKind.P256) -> PrivateKey:
    """A new private key from the operating system's random source."""
    match kind:
        case KeyKind.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyKind.RSA3072 | KeyKind.RSA4096:
            return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa")))
        case _:
            return ec.generate_private_key(_CURVES[kind])


def private_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """The key as PKCS #8 PEM (RFC 5958), which openssl and every Mender client read.

    Args:
        key: The key.
        passphrase: What to encrypt it with (PBES2, AES-256); not encrypted by default.
    """
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def load_private_key(path: Path, passphrase: Passphrase | None = None) -> PrivateKey:
    """The private key in a PEM file: PKCS #8, or openssl's `EC PRIVATE KEY` and `RSA PRIVATE KEY`.

    Other blocks around it, such as `EC PARAMETERS` from `openssl ecparam` without -noout, are passed over.

    Args:
        path: The file.
        passphrase: Asked if the key is encrypted.

    Raises:
        KeyFileError: the file is missing or unreadable, holds no key, one that the passphrase does not open, or one of
            a kind that the edge proxy cannot verify.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        raise KeyFileError(
            f"cannot read the private key {path}: {error.strerror}", "See that it exists and this user may read it."
        ) from error
    block = _PRIVATE_KEY.search(data)
    if block is None:
        raise KeyFileError(f"{path} holds no private key in PEM form", f"Look at it with: openssl pkey -in {path}")
    key = _parse(path, block.group(0) + b"\n", passphrase)
    if not isinstance(key, PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in CURVE_NAMES
    ):
        raise KeyFileError(
            f"the private key {path} is of a kind that the edge proxy cannot verify",
            "Use P-256, P-384, P-521, RSA or Ed25519.",
        )
    return key


def _parse(path: Path, pem: bytes, passphrase: Passphrase | None) -> object:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:  # how cryptography says "encrypted"
        if passphrase is None:
            raise KeyFileError(
                f"the private key {path} is encrypted",
                f"Write an unencrypted copy, for this user alone: (umask 077; openssl pkey -in {path} -out plain.key)",
            ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"the private key {path} is damaged or of an unknown kind", f"Look at it with: openssl pkey -in {path}"
        ) from error
    try:
        return load_pem_private_key(pem, password=passphrase())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"the passphrase does not open the private key {path}",
            f"Give the one it was encrypted with; try it with: openssl pkey -in {path} -noout",
        ) from error

"""A manifest of keys to preauthorise: which public key belongs to which identity, as CSV or JSON Lines."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.request import read_public_key
from mtls_ambassador.devices.rows import Columns, Entry, ManifestError, distinct, fields_of, read_identity, read_rows
from mtls_ambassador.x509 import spki

ReadFile = Callable[[str], bytes]
"""Reads a file that a manifest names; may raise OSError."""

_HEADER = Columns(
    frozenset({"spki", "public_key_file", "certificate"}),
    "spki, public_key_file and certificate",
    "identity,certificate",
)


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """An identity and its key."""

    kind: ClassVar[str] = "key"

    identity: str
    """In its normal form."""
    value: str
    """SHA-256 of the key's SPKI, lower-case hex."""
    pem: str = field(repr=False)
    """The public key."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The identity's."""
        return dict(json.loads(self.identity))


def read_keys(lines: Iterable[str], read_file: ReadFile) -> Iterator[Entry[DeviceKey] | ManifestError]:
    """Read a manifest, line by line, and go on after one that cannot be read.

    Args:
        lines: Its text, as `read_rows` takes it.
        read_file: Reads the files it names.

    Raises:
        ManifestError: the header names no identity, or nothing that a key is found by.
    """
    return distinct(read_rows(lines, _HEADER), lambda row: _device_key(fields_of(row), read_file))


def same_key(pem: str, key: DeviceKey) -> bool:
    """Whether a public key in PEM, as Mender has it, is this one."""
    try:
        return _digest(load_pem_public_key(pem.encode())) == key.value
    except (ValueError, UnsupportedAlgorithm):
        return False


def _device_key(given: Mapping[str, Any], read_file: ReadFile) -> DeviceKey:
    identity = read_identity(given)
    for name in ("spki", "public_key_file", "certificate"):
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise ManifestError(f"its {name} is not text", "Write it in quotes.")
        key = _spki(value) if name == "spki" else _from_file(name, value.strip(), read_file)
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        try:
            read_public_key(pem)
        except Refused:
            raise ManifestError(
                "its key is of a kind that Mender does not take", "RSA, ECDSA (P-224 to P-521) or Ed25519."
            ) from None
        return DeviceKey(identity, _digest(key), pem)
    raise ManifestError(
        "it names no key", "Fill one of spki (base64 of the key's DER), public_key_file and certificate (PEM files)."
    )


def _spki(text: str) -> PublicKeyTypes:
    try:
        return load_der_public_key(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        raise ManifestError(
            "its spki is not the base64 of a public key's DER",
            "openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform DER | base64 -w0",
        ) from None


def _from_file(column: str, name: str, read_file: ReadFile) -> PublicKeyTypes:
    try:
        content = read_file(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no path"
        raise ManifestError(
            f"its {column} {name} cannot be read: {reason}", "File names count from the manifest's folder."
        ) from None
    try:
        if column == "certificate":
            return x509.load_pem_x509_certificate(content).public_key()
        return load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ManifestError(
            f"its {column} {name} is no {'certificate' if column == 'certificate' else 'public key'} in PEM",
            "See `openssl x509 -in FILE`." if column == "certificate" else "See `openssl pkey -pubout`.",
        ) from None


def _digest(key: PublicKeyTypes) -> str:
    return hashlib.sha256(spki(key)).hexdigest()

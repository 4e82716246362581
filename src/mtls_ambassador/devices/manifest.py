"""A manifest: which certificate belongs to which identity, as CSV or JSON Lines. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mtls_ambassador.devices.rows import Columns, Entry, ManifestError, distinct, fields_of, read_identity, read_rows
from mtls_ambassador.ledger.records import Adoption, AdoptionKind
from mtls_ambassador.x509 import spki

# What a column may be called, in the order in which they count where a line has several: a key is the device's also
# after its certificate was renewed, a subject is the least of the three.
_COLUMNS: Mapping[str, AdoptionKind] = {
    "public_key": AdoptionKind.KEY,
    "public key": AdoptionKind.KEY,
    "key": AdoptionKind.KEY,  # of a batch's manifest it is the private key's file, and there is a public_key
    "fingerprint": AdoptionKind.FINGERPRINT,
    "subject": AdoptionKind.SUBJECT,
}
_HEADER = Columns(frozenset(_COLUMNS), "subject, fingerprint and key", "identity,fingerprint")
_SHA256 = re.compile(r"(?:sha256(?: fingerprint)?[:=]\s*)?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)


def read_manifest(lines: Iterable[str]) -> Iterator[Entry[Adoption] | ManifestError]:
    """Read a manifest, line by line, and go on after one that cannot be read.

    Args:
        lines: Its text, as `read_rows` takes it.

    Raises:
        ManifestError: the header names no identity, or nothing that a certificate is known by.
    """
    return distinct(read_rows(lines, _HEADER), read_adoption)


def read_adoption(row: Mapping[str, Any]) -> Adoption:
    """Read one line's fields.

    Raises:
        ManifestError: a field is missing, or is not what its name says.
    """
    given = fields_of(row)
    identity = read_identity(given)
    for name, kind in _COLUMNS.items():
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise ManifestError(f"its {name} is not text", "Write it in quotes.")
        return Adoption(identity, kind, _subject(value) if kind is AdoptionKind.SUBJECT else _sha256(name, value))
    raise ManifestError(
        "it names no certificate", "Fill one of subject, fingerprint (of the certificate) and key (of its public key)."
    )


def _subject(value: str) -> str:
    try:
        subject = x509.Name.from_rfc4514_string(value.strip()).rfc4514_string()
    except (ValueError, TypeError):
        subject = ""
    if not subject:
        raise ManifestError(
            "its subject is not in the form of RFC 4514",
            "Write it as the edge's log does, such as CN=device-1,O=My Org.",
        )
    return subject


def _sha256(name: str, value: str) -> str:
    if name != "fingerprint" and "-----BEGIN PUBLIC KEY-----" in value:
        try:
            return hashlib.sha256(spki(load_pem_public_key(value.encode()))).hexdigest()
        except (ValueError, UnsupportedAlgorithm):
            raise ManifestError(f"its {name} is no public key in PEM", "See `openssl pkey -pubout`.") from None
    found = _SHA256.fullmatch(value.strip())
    if found is None:
        raise ManifestError(
            f"its {name} is not a SHA-256 of 64 hex digits",
            "openssl x509 -in CERT -noout -fingerprint -sha256"
            if name == "fingerprint"
            else "openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
        )
    return found[1].replace(":", "").lower()

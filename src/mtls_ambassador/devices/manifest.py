"""A manifest: which certificate belongs to which identity, as CSV or JSON Lines. Pure."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.identity import normal_form, parse_identity
from mtls_ambassador.admission.strict_json import AmbiguousJsonError, parse_object
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.records import Adoption, AdoptionKind
from mtls_ambassador.ledger.schema import digest
from mtls_ambassador.x509 import spki

LONGEST_LINE = 65536
"""Characters."""

# What a column may be called, in the order in which they count where a line has several: a key is the device's also
# after its certificate was renewed, a subject is the least of the three.
_COLUMNS: Mapping[str, AdoptionKind] = {
    "public_key": AdoptionKind.KEY,
    "public key": AdoptionKind.KEY,
    "key": AdoptionKind.KEY,  # of a batch's manifest it is the private key's file, and there is a public_key
    "fingerprint": AdoptionKind.FINGERPRINT,
    "subject": AdoptionKind.SUBJECT,
}
_IDENTITY = "identity"
_SHA256 = re.compile(r"(?:sha256(?: fingerprint)?[:=]\s*)?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)
_Row = tuple[int, "Mapping[str, Any] | ManifestError"]
_NAME = re.compile(r"[^\s={}\"]+")


class ManifestError(Error):
    """A manifest, or a line of it, that cannot be used."""

    def __init__(self, what: str, remedy: str = "", line: int | None = None) -> None:
        super().__init__(what if line is None else f"line {line}: {what}", remedy)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a manifest."""

    line: int
    adoption: Adoption


def read_manifest(lines: Iterable[str]) -> Iterator[Entry | ManifestError]:
    """Read a manifest, line by line, and go on after one that cannot be read.

    Args:
        lines: Its text; CSV with a header, or JSON Lines if the first character is `{`. JSON may be one list, too, with
            an object on each line.

    Raises:
        ManifestError: the header names no identity, or nothing that a certificate is known by.
    """
    numbered = ((number, text) for number, text in enumerate(lines, start=1))
    first = next(((number, text) for number, text in numbered if text.lstrip("\ufeff").strip()), None)
    if first is None:
        raise ManifestError("the manifest is empty", "Give it a header and one line a device.")
    number, text = first[0], first[1].lstrip("\ufeff")
    if text.lstrip().startswith(("{", "[")):
        rows = _json_rows(itertools.chain([(number, text)], numbered))
    else:
        rows = _csv_rows(number, text, numbered)
    yield from _distinct(rows)


def _distinct(rows: Iterable[_Row]) -> Iterator[Entry | ManifestError]:
    """Each adoption once; an identity or a certificate that comes twice, with another beside it, is a fault."""
    identities, certificates = dict[str, tuple[int, str]](), dict[str, tuple[int, str]]()
    for line, row in rows:
        if isinstance(row, ManifestError):
            yield row
            continue
        try:
            adoption = read_adoption(row)
        except ManifestError as error:
            yield ManifestError(error.what, error.remedy, line)
            continue
        whose, whom = digest(adoption.identity), digest(adoption.kind, adoption.value)
        if (before := identities.setdefault(whose, (line, whom)))[1] != whom:
            yield ManifestError(
                f"its identity is on line {before[0]} with another certificate", "Keep the one that is right.", line
            )
        elif (before := certificates.setdefault(whom, (line, whose)))[1] != whose:
            yield ManifestError(
                f"its {adoption.kind} is on line {before[0]} with another identity",
                "A certificate is for one device: keep the one that is right.",
                line,
            )
        elif identities[whose][0] == line:
            yield Entry(line, adoption)


def read_adoption(row: Mapping[str, Any]) -> Adoption:
    """Read one line's fields.

    Raises:
        ManifestError: a field is missing, or is not what its name says.
    """
    given = {str(name).strip().lower(): value for name, value in row.items() if value}
    if not all(_is_text(value) for value in given.values()):
        raise ManifestError("it holds what is no text", "Save the manifest as UTF-8.")
    if _IDENTITY not in given:
        raise ManifestError("it has no identity", 'Write JSON such as {"mac":"52:54:00:12:34:56"}, or mac=VALUE.')
    identity = _identity(given[_IDENTITY])
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


def _json_rows(numbered: Iterable[tuple[int, str]]) -> Iterator[_Row]:
    for number, whole in numbered:
        text = whole.strip().removeprefix("[").removesuffix("]").strip().removesuffix(",")
        if not text:
            continue
        if len(text) > LONGEST_LINE:
            yield number, _too_long(number)
            continue
        try:
            row = parse_object(text)
        except AmbiguousJsonError as error:
            yield number, ManifestError(f"it is no JSON object: {error}", "Write one object on each line.", number)
        else:
            yield number, row


def _csv_rows(number: int, header: str, rest: Iterator[tuple[int, str]]) -> Iterator[_Row]:
    names = [name.strip().lower() for name in next(csv.reader([header]))]
    if _IDENTITY not in names or not set(names) & set(_COLUMNS):
        raise ManifestError(
            "the manifest has no header that names identity, and one of subject, fingerprint and key",
            "Begin it with a line such as: identity,fingerprint",
            number,
        )
    for line, text in rest:
        if not text.strip():
            continue
        if len(text) > LONGEST_LINE:
            yield line, _too_long(line)
            continue
        try:
            # One line is one row, so that a quote left open spoils its own line only; PEM in a field is not taken here.
            (values,) = csv.reader([text.rstrip("\r\n")], strict=True)
        except (csv.Error, ValueError):
            yield (
                line,
                ManifestError(
                    "its quotes do not fit", 'Put a value with commas in "...", with each quote in it doubled.', line
                ),
            )
            continue
        if len(values) != len(names):
            yield (
                line,
                ManifestError(
                    f"it has {len(values)} fields, and the header {len(names)}",
                    'Put a value with commas in "...", with each quote in it doubled.',
                    line,
                ),
            )
            continue
        yield line, dict(zip(names, values, strict=True))


def _too_long(line: int) -> ManifestError:
    return ManifestError(f"it is longer than {LONGEST_LINE} characters", "Write one device on each line.", line)


def _is_text(value: object) -> bool:
    """Whether every database takes it."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in str(value)


def _identity(value: object) -> str:
    if isinstance(value, Mapping):
        if not value:
            raise ManifestError("its identity is empty")
        value = json.dumps(value)
    text = str(value).strip()
    if text.startswith("{"):
        try:
            return parse_identity(text).normal_form
        except Refused as error:
            raise ManifestError(
                f"its identity cannot be read: {error.detail.removeprefix('id_data: ')}",
                "Write it as the edge's log does.",
            ) from None
    name, equals, content = text.partition("=")
    if not equals or not _NAME.fullmatch(name) or not content:
        raise ManifestError("its identity is neither JSON nor name=value", "Write mac=52:54:00:12:34:56, or JSON.")
    return normal_form({name: content})


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

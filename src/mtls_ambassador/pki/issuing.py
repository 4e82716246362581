"""From a certificate that is made to files that are written: in the index first, then in the files, then for good."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.files import Content, ExistsError, WriteError, write_together
from mtls_ambassador.pki import conflicts, entries, keys
from mtls_ambassador.pki.entries import Entry, Kind
from mtls_ambassador.pki.index import INDEX, Index
from mtls_ambassador.pki.keys import PrivateKey
from mtls_ambassador.pki.profiles import Signer
from mtls_ambassador.pki.signer import CA_CERTIFICATE, CA_CHAIN, CA_KEY

_AUTHORITYS = frozenset({CA_KEY, CA_CERTIFICATE, CA_CHAIN, INDEX})
"""Names that are a CA's files in every folder."""


@dataclass(frozen=True)
class Certified:
    """A certificate that was made and written, and where.

    Attributes:
        certificate: The certificate.
        certificate_path: Its PEM file, mode 0644; intermediates follow in it.
    """

    certificate: x509.Certificate
    certificate_path: Path


@dataclass(frozen=True)
class Issued(Certified):
    """A certificate with its private key.

    Attributes:
        key_path: The private key's PEM file, mode 0600.
    """

    key_path: Path


class Claim(Enum):
    """Who a device's certificate is for."""

    NEW = auto()
    """A device that has none."""
    AGAIN = auto()
    """One that may have another, as an operator says."""
    RENEWAL = auto()
    """The holder of a certificate that was shown."""


def new_serial() -> int:
    """A serial number for a certificate, at random, positive, of 128 bits.

    RFC 5280 section 4.1.2.2 allows 20 octets. The top bit is set so that every tool prints the same 32 digits: one
    that drops leading zeros and one that does not would disagree about a blacklist's entry.
    """
    return 1 << 127 | secrets.randbits(127)


def recorded_path(directory: Path, path: Path) -> str:
    """A path as the index keeps it: relative within the CA's folder, so that this may be moved, else absolute."""
    directory, path = directory.resolve(), path.parent.resolve() / path.name
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)


def key_name(certificate: Path) -> str:
    """What the private key's file beside a certificate's is called: `device-cert.pem` has `device-private.key`."""
    stem = certificate.stem.removesuffix("cert")
    return f"{stem}private.key" if stem != certificate.stem else f"{stem}.key"


def make_directories(contents: Iterable[Content]) -> None:
    """Make the folders of these files where they are missing.

    Raises:
        WriteError: one cannot be made.
    """
    for directory in dict.fromkeys(content.path.parent for content in contents):
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot make the directory {directory}: {error.strerror}", "Name another.") from error


def chain_file(directory: Path, *certificates: x509.Certificate) -> Content:
    """An intermediate CA's `ca-chain.pem`: its own certificate first, the root's last."""
    return Content(directory / CA_CHAIN, b"".join(each.public_bytes(Encoding.PEM) for each in certificates), 0o644)


def require_no_conflict(index: Index, entry: Entry, now: datetime, claim: Claim, *, foreign_key: bool = True) -> None:
    """Check that a certificate may be issued beside those that the CA issued before.

    Args:
        index: The CA's, in a transaction that puts the entry in.
        entry: The certificate.
        now: The current time.
        claim: Who it is for.
        foreign_key: Whether its key may have been seen before; one that was just made has not.

    Raises:
        ConflictError: its key or its subject is not to be had.
        IndexFileError: the index cannot be read.
    """
    if foreign_key:
        same_key = index.of_key(entry.public_key)
        conflicts.require_sound_key(entry, same_key)
        if claim is not Claim.RENEWAL:
            conflicts.require_own_key(entry, same_key, now)
    if claim is Claim.NEW and entry.kind is Kind.DEVICE:
        conflicts.require_new_subject(entry, index.of_subject(entry.subject), now)


def record_and_write(
    directory: Path,
    ca: Signer,
    certified: Certified,
    kind: Kind,
    *,
    now: datetime,
    claim: Claim = Claim.NEW,
    key: tuple[Path, PrivateKey] | None,
    more: Sequence[Content] = (),
    replace: bool,
) -> None:
    """Put a new certificate into the CA's index and into its file, with its key if that is new too: all or nothing.

    Args:
        directory: The CA's folder.
        ca: The CA.
        certified: The certificate and where it goes; intermediates follow it in the file, unless it is a CA's.
        kind: What it is for.
        now: The current time.
        claim: Who it is for.
        key: The private key and where it goes.
        more: Files that belong to it.
        replace: Whether to replace files that are there.

    Raises:
        ConflictError: its key or its subject is not to be had.
        ExistsError: without `replace`, one of the files is there already; or it is a CA's.
        WriteError: the files cannot be written.
        IndexFileError: the index cannot be written.
    """
    path = certified.certificate_path
    is_ca = kind in {Kind.ROOT, Kind.INTERMEDIATE}
    pem = certified.certificate.public_bytes(Encoding.PEM) if is_ca else ca.presented_pem(certified.certificate)
    contents = [Content(path, pem, 0o644), *more]
    if key is not None:
        contents.insert(0, Content(key[0], keys.private_pem(key[1]), 0o600))
    _require_no_authoritys(contents, certified.certificate, is_ca=is_ca)
    entry = entries.entry(certified.certificate, kind, recorded_path(directory, path))
    with Index.open(directory) as index:
        with index.writing() as cursor:  # of two programs at once, the second sees what the first put in
            require_no_conflict(index, entry, now, claim, foreign_key=key is None)
            make_directories(contents)
            index.insert(cursor, [entry], pending=True)
        try:
            write_together(contents, replace=replace)
        except WriteError:
            if not any(map(_is_placed, contents)):  # or somebody may have it
                index.discard([entry.serial])
            raise
        index.finish([entry.serial])


def _is_placed(content: Content) -> bool:
    try:
        return content.path.read_bytes() == content.data
    except FileNotFoundError:
        return False
    except OSError:
        return True  # for all that can be seen


def _require_no_authoritys(contents: Iterable[Content], certificate: x509.Certificate, *, is_ca: bool) -> None:
    """Check that nothing takes the place of a CA's files, whichever folder they are in.

    Raises:
        ExistsError: one of the names is a CA's, and the certificate is not that CA's own.
    """
    for content in contents:
        if content.path.name.lower() not in _AUTHORITYS or (is_ca and _is_free(content.path, certificate)):
            continue
        raise ExistsError(
            f"{content.path} is where a CA's own file belongs; those are never overwritten",
            "Give the request or the certificate's file another name, or name another folder with --out.",
        )


def _is_free(path: Path, certificate: x509.Certificate) -> bool:
    """Whether there is no CA in a file's folder, or the same one: it has the same key."""
    own = path.with_name(CA_CERTIFICATE)
    try:
        return x509.load_pem_x509_certificate(own.read_bytes()).public_key() == certificate.public_key()
    except FileNotFoundError:
        return not path.exists()
    except (OSError, ValueError, UnsupportedAlgorithm):
        return False

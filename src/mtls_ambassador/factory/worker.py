"""One process of a batch: makes keys and certificates by the checkpoint, and writes them once it is told to.

In between, private keys are in this process's memory and nowhere else: the certificates go to the one process that
keeps the index, and come back as the word to write, and then the word to put in place.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtls_ambassador.errors import Error
from mtls_ambassador.factory import envelope, package
from mtls_ambassador.factory.items import Item
from mtls_ambassador.factory.orders import Order
from mtls_ambassador.factory.package import File, Package
from mtls_ambassador.factory.rows import Problem
from mtls_ambassador.pki import entries, keys, profiles, request
from mtls_ambassador.pki.entries import Entry, Kind
from mtls_ambassador.pki.issuing import new_serial
from mtls_ambassador.pki.keys import KeyKind, PublicKey
from mtls_ambassador.pki.profiles import Signer, SubjectFields, Validity
from mtls_ambassador.x509 import spki

KEY, CERTIFICATE = "device-private.key", "device-cert.pem"


@dataclass(frozen=True)
class Recipe:
    """What all devices of a batch have in common.

    Attributes:
        ca: Who signs.
        out: The batch's folder.
        recorded: The same as the index has it, see `entries.Entry.path`.
        now: When.
        days: For how long.
        kind: Of their keys.
        subject: What stands beside the common name.
        archives: One archive a device, rather than a folder.
        files: Files that every device gets.
        recipients: Whom private keys are encrypted to; nobody: they are not.
    """

    ca: Signer
    out: Path
    recorded: str
    now: datetime
    days: int = profiles.DEVICE_DAYS
    kind: KeyKind = KeyKind.P256
    subject: SubjectFields = field(default_factory=SubjectFields)
    archives: bool = False
    files: tuple[File, ...] = ()
    recipients: tuple[x509.Certificate, ...] = ()

    @cached_property
    def above(self) -> bytes:
        """What follows a device's certificate in its file: the intermediates, PEM."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.ca.intermediates)

    @cached_property
    def period(self) -> tuple[datetime, datetime]:
        """The notBefore and notAfter of the certificates."""
        return profiles.period(Validity(self.now, self.days))

    @property
    def key_name(self) -> str:
        """What the private key's file is called."""
        return KEY + envelope.SUFFIX if self.recipients else KEY

    def place(self, name: str) -> str:
        """What stands in the batch's folder for a device."""
        return package.archive_name(name) if self.archives else name

    def name(self, place: str) -> str:
        """The device whose place that is."""
        return package.name_of_archive(place) if self.archives else place


class Certified(NamedTuple):
    """A certificate, on its way to the index.

    Attributes:
        where: Where its order stands, for people.
        item: What the index keeps of the device.
        subject: RFC 4514 text.
        der: The certificate.
    """

    where: str
    item: Item
    subject: str
    der: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """What a checkpoint's orders became.

    Attributes:
        certified: Certificates; their files are not written yet.
        problems: Orders that could not be carried out.
    """

    certified: Sequence[Certified]
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True)
class Staged:
    """The files of what was made are whole in the staging folder, and on the disk."""


@dataclass(frozen=True, slots=True)
class Placed:
    """They are in their places, and that is on the disk."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker's end: an error that concerns more than one order."""

    what: str
    remedy: str


def work(recipe: Recipe, connection: Connection) -> None:
    """Carry orders out until the other side closes.

    In come `Sequence[Order]`, out goes `Made`; in come serial numbers to leave out, out goes `Staged`; in comes None,
    which says that they are issued now, out goes `Placed`. Or `Failed`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.umask(0o022)
    gc.disable()  # nothing here refers in circles, and looking for it costs a tenth
    pattern = profiles.device_pattern(Validity(recipe.now, recipe.days), recipe.ca)
    try:
        while True:
            made, packages = _make(recipe, pattern, connection.recv())
            connection.send(made)
            unwanted = connection.recv()
            wanted = [each for serial, each in packages.items() if serial not in unwanted]
            package.stage(recipe.out, wanted)
            connection.send(Staged())
            connection.recv()
            package.place(recipe.out, [each.name for each in wanted])
            connection.send(Placed())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Error as error:
        connection.send(Failed(error.what, error.remedy))


def _make(recipe: Recipe, pattern: x509.CertificateBuilder, orders: Sequence[Order]) -> tuple[Made, dict[str, Package]]:
    certified: list[Certified] = []
    problems: list[Problem] = []
    packages: dict[str, Package] = {}
    for order in orders:
        try:
            one, packed = make(recipe, pattern, order)
        except Error as error:
            problems.append(Problem(order.where, error.what))
        else:
            certified.append(one)
            packages[one.item.serial] = packed
    return Made(certified, problems), packages


def make(recipe: Recipe, pattern: x509.CertificateBuilder, order: Order) -> tuple[Certified, Package]:
    """Make the key and the certificate of one device.

    Args:
        recipe: What it has in common with others.
        pattern: The same of its certificate.
        order: The device.

    Raises:
        RequestError: its request cannot be signed.
        ProfileError: a name does not fit into a certificate.
    """
    files: list[File] = []
    public: PublicKey
    if order.request is None:
        key = keys.generate(recipe.kind)
        public, name = key.public_key(), profiles.subject(order.cn or "", recipe.subject)
        pem = keys.private_pem(key)
        sealed = envelope.seal(pem, recipe.recipients) if recipe.recipients else pem
        files.append(File(recipe.key_name, sealed, 0o600))
    else:
        asked = request.load_request(order.request)
        request.require_foreign(asked, recipe.ca.certificate, order.request.name)
        public = asked.public_key
        if order.cn is None:
            name = request.require_subject(asked, order.request.name)
        else:
            name = profiles.subject(order.cn, recipe.subject)
    certificate = profiles.device_like(pattern, public, name, order.san, serial=new_serial(), signer=recipe.ca)
    der = certificate.public_bytes(Encoding.DER)
    files += [File(CERTIFICATE, _pem(der) + recipe.above), *recipe.files]
    if recipe.archives:
        packed = package.archive(order.name, files, int(recipe.now.timestamp()))
    else:
        packed = Package(order.name, tuple(files))
    return _certified(order, der, certificate.serial_number, name, spki(public)), packed


def entry(recipe: Recipe, certified: Certified) -> Entry:
    """What the index keeps of a certificate."""
    # As `entries.entry`, out of what is at hand: reading it out of the certificate costs as much as a new key.
    begin, end = recipe.period
    item, place = certified.item, recipe.place(certified.item.name)
    return Entry(
        serial=item.serial,
        kind=Kind.DEVICE,
        subject=certified.subject,
        public_key=item.public_key,
        fingerprint=item.fingerprint,
        not_before=begin,
        not_after=end,
        path=f"{recipe.recorded}/{place}" if recipe.archives else f"{recipe.recorded}/{place}/{CERTIFICATE}",
        der=certified.der,
    )


def _pem(der: bytes) -> bytes:
    # RFC 7468, as `cryptography` writes it, which would make the DER once more.
    text = base64.b64encode(der)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"


def _certified(order: Order, der: bytes, serial: int, name: x509.Name, key: bytes) -> Certified:
    item = Item(
        order.line,
        order.name,
        str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value) if order.cn is None else order.cn,
        order.identity,
        key,
        entries.serial_text(serial),
        hashlib.sha256(der).hexdigest(),
        hashlib.sha256(key).hexdigest(),
    )
    return Certified(order.where, item, name.rfc4514_string(), der)

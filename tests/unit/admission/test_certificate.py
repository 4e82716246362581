"""Client certificates as Envoy passes them on are read, or refused with a reason, never taken for what they are not."""

from __future__ import annotations

import datetime as dt
import hashlib
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtls_ambassador.admission.certificate import (
    PeerCertificate,
    keys_of,
    read_certificate,
    require_device,
)
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.config.binding import CertificateField
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import spki
from tests.certificates import CertificateAuthority, Holder

CA = CertificateAuthority("My CA")
NOW = dt.datetime.now(dt.UTC)


def header(holder: Holder) -> str:
    return quote(holder.pem.decode(), safe="")


def read(holder: Holder) -> PeerCertificate:
    return read_certificate(header(holder))


@pytest.mark.parametrize("kind", ["p256", "p521", "ed25519", "rsa2048"])
def test_reads_what_admission_needs(kind: str) -> None:
    holder = CA.device("dev-1", key=kind, subject={"O": "Acme, Inc."})  # type: ignore[arg-type]
    found = read(holder)
    assert found.fingerprint == holder.fingerprint
    assert found.serial == holder.serial
    assert found.subject == "O=Acme\\, Inc.,CN=dev-1"
    assert found.issuer == "CN=My CA"
    assert found.public_key == spki(holder.key.public_key())
    assert not found.is_ca


@pytest.mark.parametrize(("serial", "text"), [(1, "01"), (0xAB, "ab"), (0x100, "0100"), (2**64, "010000000000000000")])
def test_serial_is_written_in_whole_bytes(serial: int, text: str) -> None:
    assert read(CA.device("dev-1", serial=serial)).serial == text


def test_reads_odd_but_usable_ones() -> None:
    assert read(CA.device("x", subject=x509.Name([]))).subject == ""
    assert not read(CA.device("x", ca=None)).is_ca
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\xff")
    assert not read(CA.device("x", extensions=[(unknown, False)])).is_ca


@pytest.mark.parametrize(
    "value",
    [None, "", "-", "x", "%", "%ff", quote("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "%00"],
)
def test_what_cannot_be_read_is_refused(value: str | None) -> None:
    with pytest.raises(Refused) as caught:
        read_certificate(value)
    assert caught.value.reason is RefusalReason.CERTIFICATE_UNREADABLE


def patched(holder: Holder, old: bytes, new: bytes) -> str:
    assert len(old) == len(new)
    assert holder.der.count(old) == 1
    der = holder.der.replace(old, new)
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    return quote(pem.decode(), safe="")


def test_extension_that_stands_twice_is_refused() -> None:
    """BoringSSL lets it pass where it does not know the extension."""
    first, second = x509.ObjectIdentifier("1.2.3.4.100"), x509.ObjectIdentifier("1.2.3.4.101")
    extensions = [(x509.UnrecognizedExtension(oid, b"\x05\x00"), False) for oid in (first, second)]
    value = patched(CA.device("x", extensions=extensions), b"\x2a\x03\x04\x65", b"\x2a\x03\x04\x64")
    with pytest.raises(Refused) as caught:
        read_certificate(value)
    assert caught.value.reason is RefusalReason.CERTIFICATE_UNREADABLE


X400_ADDRESS = (b"\x82\x03abc", b"\xa3\x03\x0c\x01a")
NOT_ASCII = (b"\x82\x03abc", b"\x82\x03a\xffc")
each_odd_name = pytest.mark.parametrize("change", [X400_ADDRESS, NOT_ASCII], ids=["x400Address", "not ASCII"])


@each_odd_name
@pytest.mark.parametrize("basic_constraints", [False, None])
def test_a_name_that_cannot_be_read_keeps_no_device_out(
    change: tuple[bytes, bytes], basic_constraints: bool | None
) -> None:
    """Only rules about alternative names miss them, and know that they do."""
    found = read_certificate(patched(CA.device("x", san=["DNS:abc"], ca=basic_constraints), *change))
    assert not found.is_ca
    assert found.values(CertificateField.COMMON_NAME) == ("x",)
    for name in (CertificateField.DNS_NAME, CertificateField.URI, CertificateField.EMAIL):
        assert found.values(name) is None


@each_odd_name
def test_a_name_that_cannot_be_read_makes_no_ca_a_device(change: tuple[bytes, bytes]) -> None:
    for length in (None, 0):
        holder = CA.device("x", san=["DNS:abc"], ca=True, path_length=length)
        with pytest.raises(Refused) as caught:
            read_certificate(patched(holder, *change))
        assert caught.value.reason is RefusalReason.CERTIFICATE_UNREADABLE


def test_reads_what_rules_compare() -> None:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "dev-1"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Line 1"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Plänt"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "4711"),
        ]
    )
    names = ["DNS:b.example", "DNS:a.example", "URI:urn:x:1", "email:a@b.c", "IP:127.0.0.1"]
    holder = CA.device("", subject=name, san=names, serial=0xAB)
    found = read(holder)
    assert {field.value: found.values(field) for field in CertificateField} == {
        "subject.CN": ("dev-1",),
        "subject.serialNumber": ("4711",),
        "subject.OU": ("Line 1", "Plänt"),
        "subject.O": (),
        "san.dns": ("b.example", "a.example"),
        "san.uri": ("urn:x:1",),
        "san.email": ("a@b.c",),
        "serial": ("ab",),
        "issuer": ("CN=My CA",),
        "key": (hashlib.sha256(found.public_key).hexdigest(),),
        "fingerprint": (holder.fingerprint,),
    }
    assert found.not_before == holder.certificate.not_valid_before_utc
    assert found.not_after == holder.certificate.not_valid_after_utc


def test_a_certificate_without_names_has_none() -> None:
    found = read(CA.device("", subject=x509.Name([])))
    assert all(found.values(name) == () for name in CertificateField if not name.is_single)


def test_names_beyond_number_are_not_looked_at() -> None:
    many = [f"DNS:{number}.example" for number in range(32)]
    assert len(read(CA.device("x", san=many)).values(CertificateField.DNS_NAME) or ()) == 32
    found = read(CA.device("x", san=[*many, "DNS:x.example", "email:a@b.c"]))
    assert found.values(CertificateField.DNS_NAME) is None
    assert found.values(CertificateField.EMAIL) == ("a@b.c",)


def test_devices_are_devices() -> None:
    server = CA.server("my-server.com")
    require_device(
        read(CA.device("dev-1")),
        server_keys={spki(server.certificate.public_key())},
        ca_keys={spki(CA.certificate.public_key())},
        now=NOW,
    )


@pytest.mark.parametrize(
    ("holder", "reason"),
    [
        (CA, RefusalReason.CA_CERTIFICATE),
        (CA.intermediate("unknown intermediate"), RefusalReason.CA_CERTIFICATE),
        (CA.device("of the CA's key", key=CA.key), RefusalReason.CA_CERTIFICATE),
        (CA.device("calls itself a CA", ca=True), RefusalReason.CA_CERTIFICATE),
    ],
    ids=lambda value: value.label if isinstance(value, RefusalReason) else value.certificate.subject.rfc4514_string(),
)
def test_authorities_are_not(holder: Holder, reason: RefusalReason) -> None:
    with pytest.raises(Refused) as caught:
        require_device(read(holder), server_keys=set(), ca_keys={spki(CA.certificate.public_key())}, now=NOW)
    assert caught.value.reason is reason


def test_neither_is_the_edge_itself() -> None:
    server = CA.server("my-server.com")
    renewed = CA.device("another certificate for the server's key", key=server.key)
    for holder in (server, renewed):
        with pytest.raises(Refused) as caught:
            require_device(read(holder), server_keys={spki(server.certificate.public_key())}, ca_keys=set(), now=NOW)
        assert caught.value.reason is RefusalReason.SERVER_CERTIFICATE


def test_a_certificate_that_expired_since_the_handshake() -> None:
    """Connections live longer than certificates."""
    certificate = read(CA.device("dev-1", not_after=NOW.replace(microsecond=0)))
    second = dt.timedelta(seconds=1)
    require_device(certificate, server_keys=set(), ca_keys=set(), now=certificate.not_after)
    with pytest.raises(Refused) as caught:
        require_device(certificate, server_keys=set(), ca_keys=set(), now=certificate.not_after + second)
    assert caught.value.reason is RefusalReason.CERTIFICATE_EXPIRED


def test_keys_that_cannot_be_read_are_left_out() -> None:
    brainpool = CA.device("x", key=ec.generate_private_key(ec.BrainpoolP256R1()))
    assert keys_of([CA.certificate, CA.certificate]) == {spki(CA.certificate.public_key())}
    assert len(keys_of([CA.certificate, brainpool.certificate])) in {1, 2}

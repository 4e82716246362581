"""`pki.entries`: what the index keeps of a certificate, and what a certificate of anybody's making is for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509

from mtls_ambassador.pki import entries
from mtls_ambassador.pki.entries import Kind, Reason, Status
from tests import der
from tests.certificates import CertificateAuthority, Holder, self_signed

CA = CertificateAuthority("My CA")


def test_an_entry_says_what_the_certificate_says() -> None:
    holder = CA.device("dev-1", serial=0x0A0B)
    entry = entries.entry(holder.certificate, Kind.DEVICE, "dev-1/device-cert.pem")
    assert (entry.serial, entry.subject, entry.path) == (holder.serial, "CN=dev-1", "dev-1/device-cert.pem")
    assert (entry.fingerprint, entry.der) == (holder.fingerprint, holder.der)
    assert entry.public_key == entries.key_text(holder.key.public_key())
    assert entry.not_after == holder.certificate.not_valid_after_utc
    assert entry.status is Status.VALID


@pytest.mark.parametrize(
    ("serial", "text"), [(1, "01"), (0xAB, "ab"), (0xABC, "0abc"), (0x8000, "8000"), (0, "00"), (-0xEE, "-ee")]
)
def test_serials_are_written_as_envoy_writes_them(serial: int, text: str) -> None:
    assert entries.serial_text(serial) == text


@pytest.mark.parametrize(
    ("holder", "file_name", "kind"),
    [
        (CA, "x.pem", Kind.ROOT),
        (self_signed(eku=None, ca=None), "x.pem", Kind.ROOT),
        (CA.intermediate("Line 1"), "x.pem", Kind.INTERMEDIATE),
        (CA.server("a.example"), "x.pem", Kind.SERVER),
        (CA.device("dev-1"), "server.pem", Kind.DEVICE),
        (CA.device("dev-1", eku=("clientAuth", "serverAuth")), "server.pem", Kind.DEVICE),
        (CA.device("dev-1", eku=None), "server-cert.pem", Kind.SERVER),
        (CA.device("dev-1", eku=None), "device-cert.pem", Kind.DEVICE),
    ],
)
def test_what_a_certificate_is_for(holder: Holder, file_name: str, kind: Kind) -> None:
    assert entries.kind_of(holder.certificate, file_name) is kind


def test_version_1_says_nothing() -> None:
    def version_1(part: der.SignedPart) -> None:
        part.version, part.extensions = b"", []

    bare = x509.load_der_x509_certificate(der.changed(CA.server("a.example").der, CA.key, version_1))
    assert entries.kind_of(bare, "server-cert.pem") is Kind.SERVER
    assert entries.kind_of(bare, "cert.pem") is Kind.DEVICE


def test_reasons_are_the_fields_own() -> None:
    assert {reason.value for reason in Reason} | {"removeFromCRL"} == {flag.value for flag in x509.ReasonFlags}


def test_times_survive() -> None:
    moment = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert entries.from_epoch(entries.to_epoch(moment)) == moment

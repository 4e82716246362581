"""`pki.profiles`: what stands in the certificates, parsed back."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.pki import profiles
from mtls_ambassador.pki.keys import KeyKind, generate
from mtls_ambassador.pki.profiles import ProfileError, Signer, SubjectFields, Validity

NOW = datetime(2030, 5, 17, 12, 30, 15, 999999, tzinfo=UTC)
SEED_FIELDS = SubjectFields(
    organization="My Organization",
    organizational_unit="My Unit",
    email="myusername@example.com",
    country="NO",
    locality="Oslo",
    state="Oslo",
)
Extension = TypeVar("Extension", bound=x509.ExtensionType)


def make_ca(kind: KeyKind = KeyKind.P256) -> Signer:
    key = generate(kind)
    return Signer(profiles.root_ca(key, profiles.subject("My CA", SEED_FIELDS), Validity(NOW, 3650), 77), key)


def make_server(cn: str, *san: str) -> x509.Certificate:
    key = generate().public_key()
    return profiles.server(key, profiles.subject(cn), san, validity=Validity(NOW, 730), serial=8, signer=CA)


def make_device(cn: str, signer: Signer | None = None) -> x509.Certificate:
    key = generate().public_key()
    return profiles.device(key, profiles.subject(cn), validity=Validity(NOW, 3650), serial=9, signer=signer or CA)


def value(certificate: x509.Certificate, kind: type[Extension]) -> Extension:
    return certificate.extensions.get_extension_for_class(kind).value


def critical(certificate: x509.Certificate) -> set[type[x509.ExtensionType]]:
    return {type(extension.value) for extension in certificate.extensions if extension.critical}


def usages(certificate: x509.Certificate) -> set[str]:
    usage = value(certificate, x509.KeyUsage)
    every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    return {name for name in [*every, "key_cert_sign", "crl_sign"] if getattr(usage, name)}


CA = make_ca()


def test_the_root_may_sign_certificates_and_revocation_lists_and_nothing_else() -> None:
    root = CA.certificate
    assert root.version is x509.Version.v3
    assert value(root, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=None)
    assert usages(root) == {"key_cert_sign", "crl_sign"}
    assert critical(root) == {x509.BasicConstraints, x509.KeyUsage}
    assert value(root, x509.SubjectKeyIdentifier) == x509.SubjectKeyIdentifier.from_public_key(CA.key.public_key())
    assert root.subject == root.issuer
    assert root.serial_number == 77
    root.verify_directly_issued_by(root)


def test_the_subject_has_the_documentations_fields_in_their_order() -> None:
    assert [attribute.rfc4514_attribute_name for attribute in CA.certificate.subject] == [
        "CN",
        "O",
        "OU",
        "1.2.840.113549.1.9.1",
        "C",
        "L",
        "ST",
    ]
    assert [attribute.value for attribute in CA.certificate.subject] == [
        "My CA",
        "My Organization",
        "My Unit",
        "myusername@example.com",
        "NO",
        "Oslo",
        "Oslo",
    ]


@pytest.mark.parametrize(
    ("make", "purpose"),
    [(make_server, ExtendedKeyUsageOID.SERVER_AUTH), (make_device, ExtendedKeyUsageOID.CLIENT_AUTH)],
)
def test_a_leaf_is_good_for_its_one_purpose(
    make: Callable[[str], x509.Certificate], purpose: x509.ObjectIdentifier
) -> None:
    leaf = make("host.example.com")
    assert value(leaf, x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    assert usages(leaf) == {"digital_signature"}
    assert list(value(leaf, x509.ExtendedKeyUsage)) == [purpose]
    assert critical(leaf) == {x509.BasicConstraints, x509.KeyUsage}
    own = value(CA.certificate, x509.SubjectKeyIdentifier)
    assert value(leaf, x509.AuthorityKeyIdentifier).key_identifier == own.digest
    assert value(leaf, x509.SubjectKeyIdentifier).digest != own.digest
    leaf.verify_directly_issued_by(CA.certificate)


def test_a_certificate_begins_a_bit_in_the_past_for_devices_whose_clock_is_behind() -> None:
    for certificate, days in ((CA.certificate, 3650), (make_server("a.example"), 730), (make_device("a"), 3650)):
        assert certificate.not_valid_before_utc == datetime(2030, 5, 17, 11, 30, 15, tzinfo=UTC)
        assert certificate.not_valid_after_utc == NOW.replace(microsecond=0) + timedelta(days=days)


@pytest.mark.parametrize("days", [0, -1, 10**6 * 4, 10**12])
def test_days_that_make_no_date_are_refused(days: int) -> None:
    with pytest.raises(ProfileError, match=f"cannot be valid for {days} days"):
        profiles.root_ca(CA.key, profiles.subject("My CA"), Validity(NOW, days), 1)


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        (KeyKind.P256, hashes.SHA256),
        (KeyKind.P384, hashes.SHA384),
        (KeyKind.P521, hashes.SHA512),
        (KeyKind.ED25519, type(None)),
    ],
)
def test_a_ca_of_any_kind_signs(kind: KeyKind, digest: type) -> None:
    signer = make_ca(kind)
    leaf = make_device("dev-1", signer)
    leaf.verify_directly_issued_by(signer.certificate)
    assert isinstance(leaf.signature_hash_algorithm, digest)


def test_an_identifier_that_the_ca_chose_otherwise_is_taken_as_it_is() -> None:
    ca = x509.CertificateBuilder(
        CA.certificate.subject,
        CA.certificate.subject,
        CA.key.public_key(),
        1,
        CA.certificate.not_valid_before_utc,
        CA.certificate.not_valid_after_utc,
    ).add_extension(x509.SubjectKeyIdentifier(b"chosen"), critical=False)
    leaf = make_device("dev-1", Signer(ca.sign(CA.key, hashes.SHA256()), CA.key))
    assert value(leaf, x509.AuthorityKeyIdentifier).key_identifier == b"chosen"


@pytest.mark.parametrize(
    ("cn", "san", "expected"),
    [
        ("edge.example.com", [], ["edge.example.com"]),
        ("localhost", ["IP:127.0.0.1", "::1"], ["localhost", "127.0.0.1", "::1"]),
        ("edge.example.com", ["DNS:edge.example.com", "b.example.com"], ["edge.example.com", "b.example.com"]),
        ("192.0.2.7", [], ["192.0.2.7"]),
        ("*.example.com", [], ["*.example.com"]),
        ("Edge in Oslo", ["edge.example.com"], ["edge.example.com"]),
    ],
)
def test_a_server_has_its_names_in_subject_alt_name(cn: str, san: list[str], expected: list[str]) -> None:
    names = value(make_server(cn, *san), x509.SubjectAlternativeName)
    assert [str(name.value) for name in names] == expected
    assert [isinstance(name, x509.IPAddress) for name in names] == [_is_address(text) for text in expected]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", ["Edge in Oslo", "bücher.example", "a_b.example", "-a.example", "a..b", "1.2.3.4.5"])
def test_a_server_name_that_no_client_could_look_for_is_refused(name: str) -> None:
    with pytest.raises(ProfileError, match="neither a host name nor an IP address") as caught:
        make_server(name)
    assert caught.value.remedy


@pytest.mark.parametrize("entry", ["IP:host.example", "DNS:10.0.0.1", "URI:no scheme", "", "DNS:"])
def test_an_odd_san_entry_is_refused(entry: str) -> None:
    with pytest.raises(ProfileError, match="neither"):
        make_server("edge.example.com", entry)


@pytest.mark.parametrize("cn", ["my-device-hostname.com", "dev-1", "ABC123"])
def test_a_device_whose_name_is_a_host_name_has_it_in_subject_alt_name(cn: str) -> None:
    assert list(value(make_device(cn), x509.SubjectAlternativeName)) == [x509.DNSName(cn)]


@pytest.mark.parametrize("cn", ["52:54:00:12:34:56", "Pump 7", "10.0.0.1", "12345", "gerät", "*.example.com"])
def test_a_device_of_another_name_has_none(cn: str) -> None:
    with pytest.raises(x509.ExtensionNotFound):
        value(make_device(cn), x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    ("cn", "fields", "what"),
    [
        ("", SubjectFields(), "common name"),
        ("a" * 65, SubjectFields(), "common name"),
        ("a\nb", SubjectFields(), "common name"),
        ("a", SubjectFields(country="Norway"), "country"),
        ("a", SubjectFields(country="Ñ"), "country"),
        ("a", SubjectFields(email="me@bücher.example"), "e-mail"),
        ("a", SubjectFields(organization=""), "organization"),
        ("a", SubjectFields(organization="o" * 65), "organization"),
    ],
)
def test_a_subject_that_does_not_fit_is_told_by_its_field(cn: str, fields: SubjectFields, what: str) -> None:
    with pytest.raises(ProfileError, match=what) as caught:
        profiles.subject(cn, fields)
    assert caught.value.remedy


@given(st.text())
def test_what_passes_for_a_host_name_can_stand_in_a_certificate(text: str) -> None:
    if profiles.is_host_name(text):
        assert text.isascii()
        assert len(text) <= 253
        x509.DNSName(text)


@given(st.text(min_size=1, max_size=80), st.text(max_size=4), st.text(max_size=20))
def test_any_subject_is_either_refused_or_encodable(cn: str, country: str, email: str) -> None:
    try:
        name = profiles.subject(cn, SubjectFields(country=country, email=email))
    except ProfileError:
        return
    assert name.public_bytes()

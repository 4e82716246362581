"""`pki.lint`: what it says of odd certificates agrees with the edge, and each finding has its case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_ambassador.pki import lint
from mtls_ambassador.pki.lint import Finding, Severity
from tests import der
from tests.certificates import CertificateAuthority, Holder, self_signed
from tests.odd_certificates import ACCEPTED, NOT_SHOWN, ODD_CERTIFICATES, Odd

NOW = datetime.now(UTC)
CA = CertificateAuthority("My CA", not_after=NOW + timedelta(days=365))
# Where a certificate cannot be parsed at all, the edge may hear of it in another way.
OTHER_WORDS = {"no_certificate": {"unsupported_certificate_key"}}
UNREADABLE = "certificate_unreadable"


def codes(findings: list[Finding], severity: Severity) -> list[str]:
    for finding in findings:
        assert finding.what, finding
        assert finding.remedy, finding
    return [finding.code for finding in findings if finding.severity is severity]


def errors(findings: list[Finding]) -> list[str]:
    return codes(findings, Severity.ERROR)


def warnings(findings: list[Finding]) -> set[str]:
    return set(codes(findings, Severity.WARNING)) - {"expires_soon"}


def server(holder: Holder, *, trusted: CertificateAuthority | None = CA, host: str | None = None) -> list[Finding]:
    chain = [holder.der, *(each.public_bytes(Encoding.DER) for each in holder.intermediates)]
    return lint.server(chain, [trusted.der] if trusted else [], NOW, host=host)


@pytest.mark.parametrize("odd", ODD_CERTIFICATES, ids=lambda odd: odd.name)
def test_it_agrees_with_the_edge(odd: Odd) -> None:
    presented = odd.build()
    found = lint.device((presented.leaf, *presented.intermediates), presented.anchors, datetime.now(UTC))
    if odd.verdict == ACCEPTED:
        assert errors(found) == []
        assert warnings(found) == set(odd.warnings)
    elif odd.verdict == NOT_SHOWN:
        assert errors(found) == [UNREADABLE]
    else:
        assert {UNREADABLE, odd.verdict, *OTHER_WORDS.get(odd.verdict, ())} & set(errors(found)), found


def test_names_of_oddities_are_unique_and_explained() -> None:
    assert len({odd.name for odd in ODD_CERTIFICATES}) == len({odd.what for odd in ODD_CERTIFICATES})
    assert len(ODD_CERTIFICATES) >= 100


def test_the_key_of_the_edge_is_no_devices() -> None:
    edge = CA.server("my-server.com", eku=None)
    key = edge.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert errors(lint.device([edge.der], [CA.der], NOW, server_keys={key})) == ["server_certificate"]
    assert errors(lint.device([edge.der], [CA.der], NOW)) == []
    assert lint.key_of(edge.der, key) == []
    assert errors(lint.key_of(CA.der, key)) == ["key_mismatch"]
    assert errors(lint.key_of(b"garbage", key)) == [UNREADABLE]


def test_a_certificate_that_expires_soon_is_told() -> None:
    soon = CA.device("dev-1", not_after=NOW + timedelta(days=29))
    later = CA.device("dev-1", not_after=NOW + timedelta(days=31))
    assert codes(lint.device([soon.der], [CA.der], NOW), Severity.WARNING) == ["expires_soon"]
    assert lint.device([later.der], [CA.der], NOW) == []


def test_a_good_server() -> None:
    holder = CA.server("my-server.com", san=["DNS:my-server.com", "DNS:*.edge.example.com", "IP:192.0.2.1"])
    for host in (None, "my-server.com", "MY-SERVER.com", "a.edge.example.com", "192.0.2.1"):
        assert errors(server(holder, host=host)) == []
        assert warnings(server(holder, host=host)) == set()
    for host in ("other.com", "a.b.edge.example.com", "192.0.2.2", "not a host"):
        assert errors(server(holder, host=host)) == ["wrong_host"]


@pytest.mark.parametrize(
    ("holder", "error"),
    [
        (CA.server("my-server.com", eku=("clientAuth",)), "wrong_purpose"),
        (CA.server("my-server.com", key_usage=("keyAgreement",)), "wrong_purpose"),
        (CA.server("my-server.com", not_before=NOW - timedelta(2), not_after=NOW - timedelta(1)), "expired"),
        (CA.server("my-server.com", not_before=NOW + timedelta(1)), "not_yet_valid"),
        (CertificateAuthority("Other").server("my-server.com"), "unknown_ca"),
        (self_signed("my-server.com", eku=None), "self_signed"),
        (CA.impostor().server("my-server.com"), "bad_certificate_signature"),
        (CA.server("my-server.com", key="secp256k1"), "unsupported_certificate_key"),
        (CA.intermediate("Line", ca=False).server("my-server.com"), "unknown_ca"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_devices_refuse(holder: Holder, error: str) -> None:
    assert errors(server(holder)) == [error]


def test_a_server_of_a_public_ca_is_judged_without_its_root() -> None:
    public = CertificateAuthority("Public CA")
    assert errors(server(public.server("my-server.com"), trusted=None)) == []
    assert errors(server(public.server("my-server.com", eku=("clientAuth",)), trusted=None)) == ["wrong_purpose"]


def test_a_server_without_subject_alternative_name_is_warned_of() -> None:
    bare = CA.server("my-server.com", san=())
    assert errors(server(bare, host="my-server.com")) == []
    assert warnings(server(bare)) == {"san_missing"}


def test_a_version_3_ca_without_its_flag_signs_no_servers() -> None:
    ca = CertificateAuthority("My CA", ca=None, key_usage=None)
    assert errors(server(ca.server("my-server.com"), trusted=ca)) == ["ca_flag_missing"]


def _version_1(part: der.SignedPart) -> None:
    part.version, part.extensions = b"", []


@pytest.mark.parametrize(
    ("ca", "expected_errors", "expected_warnings"),
    [
        (CA.der, [], set()),
        (der.changed(CA.der, CA.key, _version_1), [], {"version_1", "no_key_identifier"}),
        (
            CertificateAuthority("My CA", ca=None, key_usage=None, key_identifiers=False).der,
            [],
            {"ca_flag_missing", "no_key_identifier"},
        ),
        (CertificateAuthority("My CA", ca=False, key_usage=None).der, [lint.NOT_STARTED], set()),
        (CertificateAuthority("My CA", key_usage=("cRLSign",)).der, ["unknown_ca"], set()),
        (CertificateAuthority("My CA", key_usage=("keyCertSign",)).der, [], {"no_crl_sign"}),
        (CertificateAuthority("My CA", key="rsa1024").der, [], {"weak_key"}),
        (CertificateAuthority("My CA", key="secp256k1").der, ["unsupported_certificate_key"], set()),
        (CertificateAuthority("My CA", subject=x509.Name([])).der, [], {"empty_subject"}),
        (
            CertificateAuthority("My CA", not_before=NOW - timedelta(2), not_after=NOW - timedelta(1)).der,
            ["issuer_expired"],
            set(),
        ),
        (CertificateAuthority("My CA", not_before=NOW + timedelta(1)).der, ["issuer_not_yet_valid"], set()),
        (b"garbage", [UNREADABLE], set()),
    ],
)
def test_authorities(ca: bytes, expected_errors: list[str], expected_warnings: set[str]) -> None:
    found = lint.authority(ca, NOW)
    assert errors(found) == expected_errors
    assert warnings(found) == expected_warnings

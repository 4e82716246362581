"""`config.bundle`: who signed what, and CAs that cannot stand in one bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr

from mtls_ambassador.config.anchors import Anchor, Credentials
from mtls_ambassador.config.bundle import ambiguous_names, judge_bundle, signed_by
from tests.certificates import CertificateAuthority, Issuer, KeyKind, new_key
from tests.unit.config.test_material import X509_V1

ROOT = CertificateAuthority("Root")


def judged(**files: tuple[Issuer, ...]) -> str:
    """The problems of anchors with these CAs, each in the file of its name."""
    credentials = Credentials(None, None, SecretStr("t"))
    anchors = [Anchor(name, Path(name), f"trust_anchors, {name}, ca", credentials, "never", 1) for name in files]
    problems = judge_bundle(anchors, {name: [ca.certificate for ca in cas] for name, cas in files.items()})
    assert all(problem.remedy for problem in problems)
    return "\n".join(map(str, problems))


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa1024", "rsa2048", "secp256k1"])
def test_signatures_of_every_kind(kind: KeyKind) -> None:
    ca = CertificateAuthority("My CA", key=kind)
    device = ca.device("dev-1")
    assert signed_by(device.certificate, ca.certificate)
    assert not signed_by(device.certificate, CertificateAuthority("My CA", key=new_key(kind)).certificate)
    assert not signed_by(ca.impostor().device("dev-1").certificate, ca.certificate)
    assert not signed_by(device.certificate, ROOT.certificate)
    assert not signed_by(device.certificate, device.certificate)


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA512()])
@pytest.mark.parametrize("pss", [True, False])
def test_rsa_signatures(pss: bool, digest: hashes.SHA256 | hashes.SHA512) -> None:
    ca = CertificateAuthority("My CA", key="rsa2048")
    assert isinstance(ca.key, rsa.RSAPrivateKey)
    leaf = ROOT.device("dev-1").certificate
    certificate = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(leaf.public_key())
        .serial_number(1)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .sign(
            ca.key,
            digest,
            rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else None,
        )
    )
    assert signed_by(certificate, ca.certificate)
    assert not signed_by(certificate, CertificateAuthority("My CA", key=new_key("rsa2048")).certificate)


def test_a_version_1_ca_signs_like_any_other() -> None:
    ca = x509.load_pem_x509_certificate(X509_V1)
    assert signed_by(ca, ca)
    assert not signed_by(ROOT.certificate, ca)


def test_cas_of_different_subjects_go_together() -> None:
    assert judged(a=(ROOT, CertificateAuthority("Second")), b=(CertificateAuthority("Third"),)) == ""


def test_two_lines_of_a_root_go_together() -> None:
    assert judged(a=(ROOT.intermediate("Line 1"),), b=(ROOT.intermediate("Line 2"),)) == ""


def test_a_chain_in_one_file_goes_together() -> None:
    line = ROOT.intermediate("Line 1")
    assert judged(a=(ROOT, line, ROOT.renewed()), b=(CertificateAuthority("Other"),)) == ""


@pytest.mark.parametrize("identified", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("name", ["My CA", " my  ca"])
def test_one_subject_and_no_key_identifiers(identified: tuple[bool, bool], name: str) -> None:
    first = CertificateAuthority("My CA", key_identifiers=identified[0])
    second = CertificateAuthority(name, key_identifiers=identified[1])
    alone = judged(a=(first, second))
    assert "trust_anchors, a, ca (a): holds two CAs of the subject CN=My CA with different keys" in alone
    assert "Give the new CA another subject" in alone
    assert "trust_anchors, a, ca (a) and trust_anchors, b, ca (b): holds two CAs" in judged(a=(first,), b=(second,))


def test_one_subject_with_key_identifiers() -> None:
    first, second = CertificateAuthority("My CA"), CertificateAuthority("My CA")
    assert judged(a=(first, second)) == ""
    assert ambiguous_names({"a": [first.certificate, second.certificate]}) == ["CN=My CA"]
    assert ambiguous_names({"a": [first.certificate, first.renewed().certificate]}) == []


def test_one_key_in_new_certificates_without_identifiers() -> None:
    ca = CertificateAuthority("My CA", key_identifiers=False)
    assert judged(a=(ca, ca.renewed(key_identifiers=False))) == ""


@pytest.mark.parametrize("again", [ROOT, ROOT.renewed(), CertificateAuthority("Other name", key=ROOT.key)])
def test_one_ca_in_two_files(again: Issuer) -> None:
    text = judged(a=(ROOT,), b=(CertificateAuthority("Other"), again))
    assert text.startswith("trust_anchors, b, ca (b): holds CN=")
    assert "whose key is in trust_anchors, a, ca (a) too" in text
    assert "Leave it in one of them" in text


@pytest.mark.parametrize("upper_first", [True, False])
def test_an_intermediate_below_another_anchors_root(upper_first: bool) -> None:
    line = ROOT.intermediate("Line 1")
    text = judged(a=(ROOT,), b=(line,)) if upper_first else judged(b=(line,), a=(ROOT,))
    assert "trust_anchors, b, ca (b): holds CN=Line 1, which was signed by CN=Root in trust_anchors, a, ca (a)" in text
    assert "Leave the upper one out of trust_anchors, a, ca (a)" in text

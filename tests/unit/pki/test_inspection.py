"""`pki.inspection`: files, and which lint fits them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.files import WriteError
from mtls_ambassador.pki import authority, inspection, revocation
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.inspection import Inspection
from mtls_ambassador.pki.keys import PassphraseMissingError
from mtls_ambassador.pki.lint import Finding
from mtls_ambassador.pki.pem import PemError
from tests.certificates import CertificateAuthority, new_key
from tests.unit.pki.test_request import csr

NOW = datetime.now(UTC)


@pytest.fixture
def look(tmp_path: Path) -> Inspection:
    authority.init(tmp_path, "My CA")
    authority.issue_server(tmp_path, "my-server.com")
    authority.issue_device(tmp_path, "dev-1")
    revocation.write_crl(tmp_path)
    return Inspection(NOW + timedelta(minutes=1), inspection.trust_bundle(tmp_path))


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_a_good_ca_and_its_files(tmp_path: Path, look: Inspection) -> None:
    found = inspection.authority(tmp_path, look)
    assert {path.name: findings for path, findings in found.items()} == {
        "ca-cert.pem": [], "ca-private.key": [], "ca.crl": [], "server-cert.pem": [], "server-private.key": [],
    }  # fmt: skip
    assert inspection.file(tmp_path / "device-cert.pem", replace(look, key=tmp_path / "device-private.key")) == []
    assert inspection.file(tmp_path / "device-private.key", look) == []


def test_an_intermediates_bundle_has_both(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", intermediate="Issuing CA")
    authority.issue_server(tmp_path, "my-server.com")
    bundle = inspection.trust_bundle(tmp_path)
    assert len(bundle) == 2
    found = inspection.authority(tmp_path, Inspection(datetime.now(UTC), bundle))
    assert [finding for findings in found.values() for finding in findings] == []


def test_a_key_of_another_certificate_and_one_that_all_may_read(tmp_path: Path, look: Inspection) -> None:
    certificate = tmp_path / "device-cert.pem"
    assert codes(inspection.file(certificate, replace(look, key=tmp_path / "server-private.key"))) == ["key_mismatch"]
    (tmp_path / "device-private.key").chmod(0o644)
    assert codes(inspection.file(certificate, replace(look, key=tmp_path / "device-private.key"))) == ["key_readable"]
    assert codes(inspection.file(certificate, replace(look, key=tmp_path / "none"))) == ["key_unreadable"]


def test_a_key_whose_passphrase_nobody_gave_is_not_an_error(tmp_path: Path) -> None:
    def nobody() -> bytes:
        raise PassphraseMissingError("no passphrase", "Give it.")

    authority.init(tmp_path, "My CA", passphrase=b"secret")
    look = Inspection(datetime.now(UTC), inspection.trust_bundle(tmp_path), passphrase=nobody)
    assert codes(inspection.authority(tmp_path, look)[tmp_path / "ca-private.key"]) == ["key_not_checked"]
    look = replace(look, passphrase=lambda: b"wrong")
    assert codes(inspection.authority(tmp_path, look)[tmp_path / "ca-private.key"]) == ["key_unreadable"]


def test_a_device_needs_a_ca_and_may_be_said_to_be_one(tmp_path: Path, look: Inspection) -> None:
    assert codes(inspection.file(tmp_path / "device-cert.pem", replace(look, anchors=()))) == ["no_ca"]
    assert codes(inspection.file(tmp_path / "server-cert.pem", replace(look, kind=Kind.DEVICE))) == ["wrong_purpose"]
    assert codes(inspection.file(tmp_path / "server-cert.pem", replace(look, host="other.com"))) == ["wrong_host"]


def test_lists_of_others_forged_ones_and_stale_ones(tmp_path: Path, look: Inspection) -> None:
    other, path = CertificateAuthority("Other"), tmp_path / "x.crl"
    path.write_bytes(other.crl())
    assert codes(inspection.file(path, look)) == ["unknown_ca"]
    path.write_bytes(CertificateAuthority("My CA").crl())
    assert codes(inspection.file(path, look)) == ["bad_signature"]
    crl = tmp_path / "ca.crl"
    assert codes(inspection.file(crl, replace(look, now=NOW + timedelta(days=31)))) == ["crl_expired"]
    assert codes(inspection.file(crl, replace(look, now=NOW - timedelta(days=1)))) == ["crl_not_yet_valid"]
    assert inspection.file(crl, replace(look, anchors=())) == []


def test_requests_and_weak_keys(tmp_path: Path, look: Inspection) -> None:
    path = tmp_path / "x.req"
    path.write_bytes(csr(new_key(), "dev-1").public_bytes(Encoding.PEM))
    assert inspection.file(path, look) == []
    path.write_bytes(csr(new_key()).public_bytes(Encoding.PEM))
    assert codes(inspection.file(path, look)) == ["bad_request"]
    _, key = CertificateAuthority("Other", key="rsa1024").write(tmp_path, "weak")
    key.chmod(0o600)
    assert codes(inspection.file(key, look)) == ["weak_key"]


def test_what_cannot_be_verified_is_told(tmp_path: Path, look: Inspection) -> None:
    with pytest.raises(WriteError, match="cannot read"):
        inspection.file(tmp_path / "none", look)
    for content in (b"nothing", b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(PemError, match="holds no"):
            inspection.file(tmp_path / "x", look)

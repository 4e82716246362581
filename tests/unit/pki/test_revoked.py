"""`pki.revoked`: the index and the lists that say it, and those that are not believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from mtls_ambassador.pki import authority, renewal, revocation
from mtls_ambassador.pki.entries import Kind, Reason
from mtls_ambassador.pki.issuing import Issued
from mtls_ambassador.pki.lint import Severity
from mtls_ambassador.pki.revocation import RevocationError
from mtls_ambassador.pki.revoked import Sources
from mtls_ambassador.pki.signer import read_certificate
from tests.certificates import CertificateAuthority


@pytest.fixture
def device(tmp_path: Path) -> Issued:
    authority.init(tmp_path, "My CA")
    return authority.issue_device(tmp_path, "dev-1")


def codes(sources: Sources, directory: Path, *certificates: x509.Certificate) -> list[str]:
    found = list(sources.findings(certificates, [read_certificate(directory)]))
    assert {each.severity for each in found} <= {Severity.ERROR}
    return [each.code for each in found]


def test_the_index_says_it(tmp_path: Path, device: Issued) -> None:
    assert codes(Sources(tmp_path), tmp_path, device.certificate) == []
    revocation.revoke(tmp_path, device.certificate, reason=Reason.SUPERSEDED)
    (finding,) = Sources(tmp_path).findings([device.certificate], [])
    assert finding.code == "revoked"
    assert "CN=dev-1 is revoked since" in finding.what
    assert "(superseded), says" in finding.what
    assert "index.sqlite3" in finding.what
    assert "pki renew --new-key" in finding.remedy
    assert codes(Sources(), tmp_path, device.certificate) == []


def test_another_certificate_for_a_compromised_key_is_told(tmp_path: Path, device: Issued) -> None:
    path = device.certificate_path
    renewed = renewal.renew(tmp_path, device.certificate, Kind.DEVICE, path, replace=True).certificate
    revocation.revoke(tmp_path, device.certificate, reason=Reason.SUPERSEDED)
    assert codes(Sources(tmp_path), tmp_path, renewed) == []
    revocation.revoke(tmp_path, device.certificate, reason=Reason.KEY_COMPROMISE)
    assert codes(Sources(tmp_path), tmp_path, renewed) == ["compromised_key"]


def test_a_list_says_it_where_there_is_no_index(tmp_path: Path, device: Issued) -> None:
    other = authority.issue_device(tmp_path, "dev-2", out=tmp_path / "2").certificate
    revocation.revoke(tmp_path, device.certificate, reason=Reason.KEY_COMPROMISE)
    crl = revocation.write_crl(tmp_path).path
    (tmp_path / "index.sqlite3").unlink()
    (finding,) = Sources(tmp_path, (crl,)).findings([device.certificate, other], [read_certificate(tmp_path)])
    assert (finding.code, "says" in finding.what, "ca.crl" in finding.what) == ("revoked", True, True)


def test_lists_of_others_are_not_believed(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    (tmp_path / "ca-cert.pem").write_bytes(ca.pem)
    device = ca.device("dev-1").certificate
    path = tmp_path / "x.crl"
    for issuer, expected in ((ca, ["revoked"]), (ca.impostor(), []), (CertificateAuthority("Other"), [])):
        path.write_bytes(issuer.crl([device.serial_number]))
        assert codes(Sources(None, (path,)), tmp_path, device) == expected
    path.write_text("nothing")
    with pytest.raises(RevocationError, match="holds no revocation list"):
        codes(Sources(None, (path,)), tmp_path, device)


def test_an_index_speaks_of_its_own_cas_certificates(tmp_path: Path, device: Issued) -> None:
    stranger = CertificateAuthority("Other").device("dev-1")
    revocation.revoke_serial(tmp_path, stranger.serial, unknown=True)
    assert codes(Sources(tmp_path), tmp_path, stranger.certificate) == []

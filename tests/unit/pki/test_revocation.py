"""`pki.revocation`: what is revoked stays so, and lists say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mtls_ambassador.pki import authority, revocation
from mtls_ambassador.pki.entries import Reason, Revocation, Status, serial_text
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.issuing import Issued
from mtls_ambassador.pki.revocation import CRL, RevocationError
from mtls_ambassador.pki.signer import SignerError
from tests.certificates import CertificateAuthority, Holder

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)


@pytest.fixture
def device(tmp_path: Path) -> Issued:
    authority.init(tmp_path, "My CA", now=NOW)
    return authority.issue_device(tmp_path, "dev-1", now=NOW)


def listed(path: Path) -> dict[int, str]:
    crl = x509.load_pem_x509_crl(path.read_bytes())
    return {int(each.serial, 16): each.reason.value for each in revocation.revocations_in(crl)}


def put_ca(directory: Path, ca: Holder) -> None:
    (directory / "ca-cert.pem").write_bytes(ca.pem)
    (directory / "ca-private.key").write_bytes(ca.key_pem)


def test_by_certificate(tmp_path: Path, device: Issued) -> None:
    entry = revocation.revoke(tmp_path, device.certificate, reason=Reason.KEY_COMPROMISE, now=NOW)
    assert entry.status is Status.REVOKED
    again = revocation.revoke(tmp_path, device.certificate, reason=Reason.SUPERSEDED, now=NOW + timedelta(days=1))
    assert again == entry
    made = revocation.write_crl(tmp_path, now=NOW)
    assert listed(made.path) == {device.certificate.serial_number: "keyCompromise"}
    assert made.path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("form", ["{:x}", "{:X}", "0x{:x}", "serial={:X}"])
def test_by_serial_number_in_every_form(tmp_path: Path, device: Issued, form: str) -> None:
    text = form.format(device.certificate.serial_number)
    entry = revocation.revoke_serial(tmp_path, text, now=NOW)
    assert entry is not None
    assert entry.subject == "CN=dev-1"


def test_with_colons() -> None:
    assert revocation.parse_serial("0A:0b:0c") == 0x0A0B0C


@pytest.mark.parametrize("text", ["", "dev-1", "0x", "12 34 zz", "-5", "device-cert.pem"])
def test_what_is_no_serial_number(text: str) -> None:
    with pytest.raises(RevocationError, match="neither a file nor a serial number"):
        revocation.parse_serial(text)


def test_a_number_that_is_not_on_record_needs_to_be_meant(tmp_path: Path, device: Issued) -> None:
    with pytest.raises(RevocationError, match="on record") as caught:
        revocation.revoke_serial(tmp_path, "0abc", now=NOW)
    assert "--unknown" in caught.value.remedy
    assert revocation.revoke_serial(tmp_path, "0abc", unknown=True, now=NOW) is None
    assert listed(revocation.write_crl(tmp_path, now=NOW).path) == {0xABC: "unspecified"}


def test_a_certificate_of_openssl_comes_on_record_as_it_is_revoked(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    put_ca(tmp_path, ca)
    holder = ca.device("dev-1")
    entry = revocation.revoke(tmp_path, holder.certificate)
    assert (entry.serial, entry.subject) == (holder.serial, "CN=dev-1")
    with pytest.raises(SignerError, match="did not issue"):
        revocation.revoke(tmp_path, CertificateAuthority("Other").device("dev-1").certificate)
    with pytest.raises(SignerError, match="did not issue"):
        revocation.revoke(tmp_path, ca.impostor().device("dev-1").certificate)


def test_a_root_does_not_revoke_itself(tmp_path: Path, device: Issued) -> None:
    root = x509.load_pem_x509_certificate((tmp_path / "ca-cert.pem").read_bytes())
    with pytest.raises(RevocationError, match="cannot revoke itself"):
        revocation.revoke(tmp_path, root)
    with pytest.raises(RevocationError, match="cannot revoke itself"):
        revocation.revoke_serial(tmp_path, f"{root.serial_number:x}")


def test_lists_are_numbered_dated_and_signed(tmp_path: Path, device: Issued) -> None:
    root = x509.load_pem_x509_certificate((tmp_path / "ca-cert.pem").read_bytes())
    first = revocation.write_crl(tmp_path, days=7, now=NOW)
    second = revocation.write_crl(tmp_path, out=tmp_path / "public", now=NOW)
    assert (first.number, second.number) == (1, 2)
    assert second.path == tmp_path / "public" / CRL
    crl = x509.load_pem_x509_crl(first.path.read_bytes())
    assert crl.is_signature_valid(root.public_key())  # type: ignore[arg-type]
    assert crl.next_update_utc == NOW + timedelta(days=7)
    assert crl.last_update_utc < NOW
    assert len(crl) == 0


def test_ten_thousand_are_listed(tmp_path: Path, device: Issued) -> None:
    with Index.open(tmp_path) as index:
        index.revoke(Revocation(serial_text(number), NOW) for number in range(1, 10_001))
    assert len(listed(revocation.write_crl(tmp_path, now=NOW).path)) == 10_000


def test_a_list_of_before_is_not_forgotten(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    put_ca(tmp_path, ca)
    old = ca.crl([77], number=41)
    (tmp_path / CRL).write_bytes(old)
    with pytest.raises(RevocationError, match="would make them good again") as caught:
        revocation.write_crl(tmp_path)
    assert "pki adopt" in caught.value.remedy
    assert (tmp_path / CRL).read_bytes() == old
    revocation.revoke_serial(tmp_path, "4d", unknown=True)
    assert revocation.write_crl(tmp_path).number == 42


def test_a_list_of_another_ca_and_what_is_no_list_stay(tmp_path: Path, device: Issued) -> None:
    for content, word in ((CertificateAuthority("Other").crl(), "of another CA"), (b"nothing", "no revocation list")):
        (tmp_path / CRL).write_bytes(content)
        with pytest.raises(RevocationError, match=word):
            revocation.write_crl(tmp_path, now=NOW)
        assert (tmp_path / CRL).read_bytes() == content


def test_a_ca_that_must_not_sign_lists_is_told(tmp_path: Path) -> None:
    put_ca(tmp_path, CertificateAuthority("My CA", key_usage=("keyCertSign",)))
    with pytest.raises(SignerError, match="no cRLSign"):
        revocation.write_crl(tmp_path)

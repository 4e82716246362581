"""`pki.renewal`: same holder, new certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.files import ExistsError
from mtls_ambassador.pki import authority, keys, profiles, renewal, revocation
from mtls_ambassador.pki.conflicts import ConflictError
from mtls_ambassador.pki.entries import Kind, Reason
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.keys import KeyKind
from mtls_ambassador.pki.signer import SignerError
from tests import der
from tests.certificates import CertificateAuthority, Holder

NOW = datetime(2030, 5, 17, tzinfo=UTC)
LATER = NOW + timedelta(days=700)


def put_ca(directory: Path, ca: Holder) -> None:
    (directory / "ca-cert.pem").write_bytes(ca.pem)
    (directory / "ca-private.key").write_bytes(ca.key_pem)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_server_keeps_its_names_and_key(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    old = authority.issue_server(tmp_path, "my-server.com", san=["IP:192.0.2.1", "DNS:a.example"], now=NOW).certificate
    made = renewal.renew(tmp_path, old, Kind.SERVER, tmp_path / "server-cert.pem", replace=True, now=LATER)
    new = read(tmp_path / "server-cert.pem")
    assert new == made.certificate
    assert (new.subject, new.public_key(), profiles.names(new)) == (old.subject, old.public_key(), profiles.names(old))
    assert new.serial_number != old.serial_number
    assert new.not_valid_before_utc > old.not_valid_before_utc
    assert new.not_valid_after_utc == LATER + timedelta(days=730)
    with Index.open(tmp_path) as index:
        assert [entry.kind for entry in index.of_subject("CN=my-server.com")] == [Kind.SERVER, Kind.SERVER]


def test_a_device_may_get_a_new_key(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    old = authority.issue_device(tmp_path, "dev 1", san=["URI:urn:serial:1"], now=NOW).certificate
    out = tmp_path / "new"
    new_key = (out / "device-private.key", KeyKind.ED25519)
    made = renewal.renew(tmp_path, old, Kind.DEVICE, out / "device-cert.pem", new_key=new_key, days=9, now=LATER)
    assert keys.load_private_key(out / "device-private.key").public_key() == made.certificate.public_key()
    assert made.certificate.public_key() != old.public_key()
    assert [str(name.value) for name in profiles.names(made.certificate)] == ["urn:serial:1"]
    assert made.certificate.not_valid_after_utc == LATER + timedelta(days=9)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    issued = authority.issue_device(tmp_path, "dev-1", now=NOW)
    before = issued.certificate_path.read_bytes()
    with pytest.raises(ExistsError):
        renewal.renew(tmp_path, issued.certificate, Kind.DEVICE, issued.certificate_path, now=LATER)
    assert issued.certificate_path.read_bytes() == before
    with Index.open(tmp_path) as index:
        assert len(index.of_subject("CN=dev-1")) == 1


def test_an_expired_root_is_renewed_and_what_it_signed_stays_good(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", days=1, now=NOW)
    device = authority.issue_device(tmp_path, "dev-1", now=NOW).certificate
    path = tmp_path / "ca-cert.pem"
    renewal.renew(tmp_path, read(path), Kind.ROOT, path, replace=True, now=LATER)
    new = read(path)
    device.verify_directly_issued_by(new)
    assert new.not_valid_after_utc == LATER + timedelta(days=3650)
    assert authority.issue_device(tmp_path, "dev-2", out=tmp_path / "2", now=LATER).certificate.issuer == new.subject


def test_a_renewed_root_has_what_the_old_one_lacked(tmp_path: Path) -> None:
    def version_1(part: der.SignedPart) -> None:
        part.version, part.extensions = b"", []

    ca = CertificateAuthority("My CA", subject={"O": "My Organization"})
    put_ca(tmp_path, ca)
    old = x509.load_der_x509_certificate(der.changed(ca.der, ca.key, version_1))
    path = tmp_path / "ca-cert.pem"
    path.write_bytes(old.public_bytes(Encoding.PEM))
    new = renewal.renew(tmp_path, old, Kind.ROOT, path, replace=True).certificate
    assert new.subject.public_bytes() == old.subject.public_bytes()
    assert new.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    new.verify_directly_issued_by(new)
    ca.device("dev-1").certificate.verify_directly_issued_by(new)


def test_an_intermediate_is_renewed_by_its_root(tmp_path: Path) -> None:
    made = authority.init(tmp_path, "My CA", intermediate="Issuing CA", now=NOW)
    device = authority.issue_device(tmp_path, "dev-1", now=NOW).certificate
    root = tmp_path / authority.ROOT
    path = tmp_path / "ca-cert.pem"
    new = renewal.renew(root, made.certificate, Kind.INTERMEDIATE, path, replace=True, now=LATER).certificate
    device.verify_directly_issued_by(new)
    chain = x509.load_pem_x509_certificates((tmp_path / "ca-chain.pem").read_bytes())
    assert chain == [new, read(root / "ca-cert.pem")]
    with pytest.raises(SignerError, match="did not issue"):
        renewal.renew(tmp_path, new, Kind.INTERMEDIATE, path, replace=True, now=LATER)


@pytest.mark.parametrize("kind", [Kind.ROOT, Kind.INTERMEDIATE])
def test_a_ca_gets_no_new_key(tmp_path: Path, kind: Kind) -> None:
    ca = authority.init(tmp_path, "My CA")
    with pytest.raises(SignerError, match="is a new CA"):
        renewal.renew(tmp_path, ca.certificate, kind, tmp_path / "x", new_key=(tmp_path / "k", KeyKind.P256))


def test_another_cas_certificate_is_not_renewed(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    foreign = CertificateAuthority("Other CA").device("dev-1").certificate
    with pytest.raises(SignerError, match="did not issue CN=dev-1") as caught:
        renewal.renew(tmp_path, foreign, Kind.DEVICE, tmp_path / "x")
    assert "CN=Other CA" in caught.value.remedy


def test_a_key_that_the_edge_cannot_verify_needs_a_new_one(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    put_ca(tmp_path, ca)
    old = ca.device("dev-1", key="secp256k1").certificate
    with pytest.raises(SignerError, match="cannot verify") as caught:
        renewal.renew(tmp_path, old, Kind.DEVICE, tmp_path / "x")
    assert "new key" in caught.value.remedy


def test_a_compromised_key_is_not_renewed(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    issued = authority.issue_device(tmp_path, "dev-1", now=NOW)
    path = issued.certificate_path
    renewed = renewal.renew(tmp_path, issued.certificate, Kind.DEVICE, path, replace=True, now=NOW).certificate
    revocation.revoke(tmp_path, issued.certificate, reason=Reason.KEY_COMPROMISE, now=NOW)
    for old in (issued.certificate, renewed):  # the second is not revoked, and has the key
        with pytest.raises(ConflictError, match="revoked for keyCompromise") as caught:
            renewal.renew(tmp_path, old, Kind.DEVICE, path, replace=True, now=LATER)
        assert "pki renew --new-key" in caught.value.remedy
    new_key = (issued.key_path, KeyKind.P256)
    renewal.renew(tmp_path, renewed, Kind.DEVICE, path, new_key=new_key, replace=True, now=LATER)


def test_nor_one_that_was_compromised_before_the_certificate_was_on_record(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    put_ca(tmp_path, ca)
    old = ca.device("dev-1")
    revocation.revoke_serial(tmp_path, old.serial, reason=Reason.KEY_COMPROMISE, unknown=True)
    with pytest.raises(ConflictError, match="revoked for keyCompromise"):
        renewal.renew(tmp_path, old.certificate, Kind.DEVICE, tmp_path / "device-cert.pem")


def test_a_servers_certificate_is_not_renewed_as_a_devices(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    server = authority.issue_server(tmp_path, "my-server.com", now=NOW).certificate
    with pytest.raises(ConflictError, match="which is no device"):
        renewal.renew(tmp_path, server, Kind.DEVICE, tmp_path / "device-cert.pem", now=NOW)


def test_a_ca_never_takes_the_place_of_another(tmp_path: Path) -> None:
    made = authority.init(tmp_path, "My CA", intermediate="Issuing CA", now=NOW)
    root = tmp_path / authority.ROOT
    top = read(root / "ca-cert.pem")
    for old, kind, out in ((made.certificate, Kind.INTERMEDIATE, root), (top, Kind.ROOT, tmp_path)):
        with pytest.raises(ExistsError, match="where a CA's own file belongs"):
            renewal.renew(root, old, kind, out / "ca-cert.pem", replace=True, now=LATER)
    # Its own file under another name does not bring a chain with it.
    line = root / "line.pem"
    renewal.renew(root, made.certificate, Kind.INTERMEDIATE, line, now=LATER)
    assert (read(root / "ca-cert.pem"), read(tmp_path / "ca-cert.pem")) == (top, made.certificate)
    assert not (root / "ca-chain.pem").exists()

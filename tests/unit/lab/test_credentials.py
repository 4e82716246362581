"""Credentials of simulated devices: out of files, or issued and kept in memory."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec

from mtls_ambassador.lab.auth_request import PrivateKey
from mtls_ambassador.lab.credentials import CredentialsError, from_files, issue, load_key
from mtls_ambassador.pki import authority, signer
from mtls_ambassador.pki.issuing import Issued

P256 = ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, key: PrivateKey | dsa.DSAPrivateKey, password: bytes | None = None) -> Path:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
        )
    )
    return path


class TestLoadKey:
    def test_reads_what_openssl_writes(self, tmp_path: Path) -> None:
        loaded = load_key(write_key(tmp_path / "key.pem", P256))
        assert loaded.public_key() == P256.public_key()

    def test_names_the_file_that_is_wrong(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialsError, match=r"absent\.pem: No such file"):
            load_key(tmp_path / "absent.pem")
        (tmp_path / "text.pem").write_text("no key")
        with pytest.raises(CredentialsError, match=r"text\.pem is not a PEM private key"):
            load_key(tmp_path / "text.pem")
        with pytest.raises(CredentialsError, match="without passphrase"):
            load_key(write_key(tmp_path / "locked.pem", P256, b"secret"))
        with pytest.raises(CredentialsError, match="DSAPrivateKey"):
            load_key(write_key(tmp_path / "dsa.pem", dsa.generate_private_key(2048)))


class TestFromFiles:
    def test_takes_what_the_authority_writes(self, tmp_path: Path) -> None:
        ca = authority.init(tmp_path, "CA")
        issued = authority.issue_device(tmp_path, "device")
        found = from_files(ca.certificate_path, issued.certificate_path, issued.key_path)
        assert found.key.public_key() == issued.certificate.public_key()
        assert found.tls.verify_mode is ssl.CERT_REQUIRED

    def test_another_key_may_sign(self, tmp_path: Path) -> None:
        issued = authority.issue_device(authority.init(tmp_path, "CA").key_path.parent, "device")
        other = write_key(tmp_path / "other.pem", P256)
        found = from_files(None, issued.certificate_path, issued.key_path, other)
        assert found.key.public_key() == P256.public_key()

    def test_names_what_does_not_fit(self, tmp_path: Path) -> None:
        issued = authority.issue_device(authority.init(tmp_path, "CA").key_path.parent, "device")
        with pytest.raises(CredentialsError, match=r"cannot use .*other\.pem"):
            from_files(None, issued.certificate_path, write_key(tmp_path / "other.pem", P256))


class TestIssue:
    def test_makes_a_device_that_the_ca_vouches_for(self, tmp_path: Path) -> None:
        ca = authority.init(tmp_path, "CA")
        server = authority.issue_server(tmp_path, "localhost")
        found = issue(signer.load(tmp_path, datetime.now(UTC)), "device-7", ca.certificate_path.read_text())
        certificate = shown_in_a_handshake(found.tls, ca, server)
        assert certificate.subject.rfc4514_string() == "CN=device-7"
        assert certificate.public_key() == found.key.public_key()

    def test_leaves_no_file_behind(self, tmp_path: Path) -> None:
        authority.init(tmp_path, "CA")
        files, descriptors = sorted(tmp_path.iterdir()), len(list(Path("/proc/self/fd").iterdir()))
        issue(signer.load(tmp_path, datetime.now(UTC)), "device", None)
        assert sorted(tmp_path.iterdir()) == files
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors

    def test_names_a_ca_that_is_none(self, tmp_path: Path) -> None:
        authority.init(tmp_path, "CA")
        with pytest.raises(CredentialsError, match="cannot use the server's CA"):
            issue(signer.load(tmp_path, datetime.now(UTC)), "device", "no certificate")


def shown_in_a_handshake(client: ssl.SSLContext, ca: Issued, server: Issued) -> x509.Certificate:
    """The certificate that `client` shows to a server that demands one of this CA; no sockets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate_path, server.key_path)
    context.load_verify_locations(ca.certificate_path)
    context.verify_mode = ssl.CERT_REQUIRED
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname="localhost"),
        context.wrap_bio(up, down, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = ends[1].getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)

"""`device.material`: what may go onto a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.device.errors import MaterialError
from mtls_ambassador.device.material import read_ca, read_credentials, read_tenant_token
from mtls_ambassador.pki.keys import KeyFileError
from tests.certificates import CertificateAuthority, KeyKind, new_key, self_signed


@pytest.fixture(scope="module")
def ca() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.mark.parametrize("kind", ["p256", "rsa2048", "ed25519"])
def test_a_certificate_and_its_key(tmp_path: Path, ca: CertificateAuthority, kind: KeyKind) -> None:
    certificate, key = ca.device("d", key=kind).write(tmp_path, "d")
    found = read_credentials(certificate, key)
    assert (found.certificate, found.key) == (certificate.read_bytes(), key.read_bytes())
    assert "PRIVATE" not in repr(found)
    without = read_credentials(certificate, None)
    assert (without.key, without.public_key) == (None, found.public_key)


def test_another_key(tmp_path: Path, ca: CertificateAuthority) -> None:
    certificate, _ = ca.device("a").write(tmp_path, "a")
    _, key = ca.device("b", key=new_key()).write(tmp_path, "b")
    with pytest.raises(MaterialError, match="is not the key of the certificate"):
        read_credentials(certificate, key)


def test_a_ca_is_no_device(tmp_path: Path, ca: CertificateAuthority) -> None:
    certificate, key = ca.write(tmp_path, "ca")
    with pytest.raises(MaterialError, match="is a CA's certificate"):
        read_credentials(certificate, key)


def test_files_taken_for_one_another(tmp_path: Path, ca: CertificateAuthority) -> None:
    certificate, key = ca.device("a").write(tmp_path, "a")
    with pytest.raises(MaterialError, match="holds a private key"):
        read_credentials(key, key)
    with pytest.raises(KeyFileError):
        read_credentials(certificate, certificate)
    with pytest.raises(MaterialError, match=r"the CA certificate .* holds a private key"):
        read_ca(key)


def test_a_certificate_file_with_the_key_in_it(tmp_path: Path, ca: CertificateAuthority) -> None:
    certificate, key = ca.device("a").write(tmp_path, "a")
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    with pytest.raises(MaterialError, match="certificates alone"):
        read_credentials(certificate, key)


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_no_certificate(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(MaterialError, match="holds no certificate"):
        read_ca(tmp_path / "c")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MaterialError, match="cannot read the CA certificate"):
        read_ca(tmp_path / "none")
    with pytest.raises(MaterialError, match="cannot read the CA certificate"):
        read_ca(tmp_path)
    (tmp_path / "image").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(MaterialError, match="larger than a megabyte"):
        read_ca(tmp_path / "image")


def test_a_self_signed_server_is_its_own_ca(tmp_path: Path) -> None:
    certificate, _ = self_signed("my-server.com").write(tmp_path, "s")
    assert read_ca(certificate) == certificate.read_bytes()


def test_a_tenant_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(" eyJh.bGci.x-_\n", encoding="utf-8")
    assert read_tenant_token(path) == "eyJh.bGci.x-_"
    for data in (b"", b"\n", b"tok en", b"first\nsecond", b"to\xffken", b"to\x07ken"):
        path.write_bytes(data)
        with pytest.raises(MaterialError, match="tenant token"):
            read_tenant_token(path)
    with pytest.raises(MaterialError, match="cannot read the tenant token"):
        read_tenant_token(tmp_path / "none")

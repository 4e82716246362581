"""`pki.request`: whose request is believed, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtls_ambassador.pki.request import RequestError, load_request, read_request, require_subject
from tests.certificates import KeyKind, new_key


def csr(key: Any, *common_names: str, extensions: bool = False) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn) for cn in common_names])
    )
    if extensions:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    ed25519 = type(key).__name__.startswith("Ed25519")
    return builder.sign(key, None if ed25519 else hashes.SHA256())


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("kind", ["p256", "p521", "rsa2048", "ed25519"])
def test_a_good_request(tmp_path: Path, kind: KeyKind, form: Encoding) -> None:
    key = new_key(kind)
    (tmp_path / "r").write_bytes(csr(key, "dev-1", extensions=True).public_bytes(form))
    request = load_request(tmp_path / "r")
    assert request.public_key == key.public_key()
    assert require_subject(request, "r").rfc4514_string() == "CN=dev-1"
    assert request.extensions == ("basicConstraints",)


def test_a_request_signed_by_another_key_is_refused() -> None:
    data = csr(new_key(), "dev-1").public_bytes(Encoding.DER)
    changed = data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]
    with pytest.raises(RequestError, match="does not have the private key"):
        read_request(changed, "r")


@pytest.mark.parametrize(("kind", "word"), [("rsa1024", "1024 bits"), ("secp256k1", "cannot verify")])
def test_a_key_that_the_edge_should_not_trust_is_refused(kind: KeyKind, word: str) -> None:
    with pytest.raises(RequestError, match=word):
        read_request(csr(new_key(kind), "dev-1").public_bytes(Encoding.PEM), "r")


@pytest.mark.parametrize("data", [b"", b"nothing", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END"])
def test_what_is_no_request_is_told(data: bytes) -> None:
    with pytest.raises(RequestError, match="no certificate signing request") as caught:
        read_request(data, "device.req")
    assert "openssl req -in device.req" in caught.value.remedy


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read the request"):
        load_request(tmp_path / "none")


@pytest.mark.parametrize("common_names", [(), ("a", "b"), ("tab\there",)])
def test_a_subject_that_no_certificate_should_have(common_names: tuple[str, ...]) -> None:
    request = read_request(csr(new_key(), *common_names).public_bytes(Encoding.PEM), "r")
    with pytest.raises(RequestError, match="subject of the request") as caught:
        require_subject(request, "r")
    assert "--cn" in caught.value.remedy

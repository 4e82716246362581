"""`pki.pem`: whatever is in a file."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mtls_ambassador.pki import pem
from mtls_ambassador.pki.pem import Content, PemError
from tests.certificates import CertificateAuthority, new_key
from tests.unit.pki.test_request import csr

CA = CertificateAuthority("My CA")
KEY = new_key()
PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
def test_every_content_in_both_forms(form: Encoding) -> None:
    secret = BestAvailableEncryption(b"x")
    for data, content in (
        (CA.certificate.public_bytes(form), Content.CERTIFICATE),
        (csr(KEY, "dev-1").public_bytes(form), Content.REQUEST),
        (KEY.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo), Content.PUBLIC_KEY),
        (KEY.private_bytes(form, PrivateFormat.PKCS8, NoEncryption()), Content.PRIVATE_KEY),
        (KEY.private_bytes(form, PrivateFormat.TraditionalOpenSSL, NoEncryption()), Content.PRIVATE_KEY),
        (KEY.private_bytes(form, PrivateFormat.PKCS8, secret), Content.ENCRYPTED_KEY),
    ):
        assert [block.content for block in pem.blocks(data, "file")] == [content]


def test_openssls_older_encryption_is_seen() -> None:
    data = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x"))
    assert [block.content for block in pem.blocks(data, "file")] == [Content.ENCRYPTED_KEY]


def test_a_bundle_with_text_and_parameters_around() -> None:
    data = b"our CA\r\n" + CA.pem.replace(b"\n", b"\r\n") + b"\n" + PARAMETERS + CA.key_pem + CA.crl()
    contents = [block.content for block in pem.blocks(data, "file")]
    assert contents == [Content.CERTIFICATE, Content.OTHER, Content.PRIVATE_KEY, Content.CRL]
    assert pem.certificates(data, "file") == [CA.der]


def test_a_key_is_not_in_a_blocks_repr() -> None:
    (block,) = pem.blocks(CA.key_pem, "file")
    assert repr(block.der) not in repr(block)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "holds no certificate, key"),
        (b"nothing", "holds no certificate, key"),
        (b"\x30\x03\x02\x01\x01", "holds no certificate, key"),
        (CA.pem[:-30], "does not end"),
        (CA.pem.replace(b"MII", b"M!!", 1), "is not base64"),
    ],
)
def test_what_is_damaged_is_told(data: bytes, word: str) -> None:
    with pytest.raises(PemError, match=word) as caught:
        pem.blocks(data, "file")
    assert "file" in caught.value.what


def test_a_file_without_a_certificate_is_told() -> None:
    with pytest.raises(PemError, match="holds no certificate"):
        pem.certificates(CA.key_pem, "file")

"""`pki.keys`: kinds, PEM files of openssl and ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mtls_ambassador.pki.keys import KeyFileError, KeyKind, generate, load_private_key, private_pem
from tests.certificates import PrivateKey, new_key

# openssl ecparam -genkey -name P-256 (without the -noout of the documentation)
WITH_PARAMETERS = """\
-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIIRmdh8hGRjPgXtuuwmjzuw+a8arfq0zvv9pg/JGBg+FoAoGCCqGSM49
AwEHoUQDQgAEQWT31cUrhTmZf6DRckkz/iTfQGDRk/Jyg0MetVvzDnB0lG1C8vmJ
eB6QBUdljGZ0wdjIDxj26oQj8JLN/wQpGw==
-----END EC PRIVATE KEY-----
"""


def test_p256_is_the_default() -> None:
    key = generate()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.P521, KeyKind.RSA3072, KeyKind.ED25519])
def test_every_kind_survives_a_file(tmp_path: Path, kind: KeyKind) -> None:
    key = generate(kind)
    path = tmp_path / "private.key"
    path.write_bytes(private_pem(key))
    again = load_private_key(path)
    assert type(again) is type(key)
    assert again.public_key() == key.public_key()
    assert {
        KeyKind.P256: lambda k: isinstance(k, ec.EllipticCurvePrivateKey) and k.key_size == 256,
        KeyKind.P384: lambda k: isinstance(k, ec.EllipticCurvePrivateKey) and k.key_size == 384,
        KeyKind.P521: lambda k: isinstance(k, ec.EllipticCurvePrivateKey) and k.key_size == 521,
        KeyKind.RSA3072: lambda k: isinstance(k, rsa.RSAPrivateKey) and k.key_size == 3072,
        KeyKind.ED25519: lambda k: isinstance(k, ed25519.Ed25519PrivateKey),
    }[kind](again)


def test_rsa4096_has_4096_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, int] = {}

    def instead(**arguments: int) -> PrivateKey:  # the real one takes seconds
        asked.update(arguments)
        return new_key()

    monkeypatch.setattr(rsa, "generate_private_key", instead)
    generate(KeyKind.RSA4096)
    assert asked == {"public_exponent": 65537, "key_size": 4096}


@pytest.mark.parametrize("key", [new_key("p256"), new_key("rsa2048")], ids=["ec", "rsa"])
def test_openssls_traditional_form_is_read(tmp_path: Path, key: PrivateKey) -> None:
    path = tmp_path / "private.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    assert load_private_key(path).public_key() == key.public_key()


def test_curve_parameters_before_the_key_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "private.key"
    path.write_text(WITH_PARAMETERS)
    assert isinstance(load_private_key(path), ec.EllipticCurvePrivateKey)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_told(tmp_path: Path, form: PrivateFormat) -> None:
    path = tmp_path / "private.key"
    path.write_bytes(new_key().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"abc")))
    with pytest.raises(KeyFileError, match="is encrypted") as caught:
        load_private_key(path)
    assert "openssl pkey" in caught.value.remedy


@pytest.mark.parametrize("key", [new_key("secp256k1"), ed448.Ed448PrivateKey.generate()], ids=["secp256k1", "ed448"])
def test_a_kind_that_the_edge_cannot_verify_is_refused(tmp_path: Path, key: PrivateKey | ed448.Ed448PrivateKey) -> None:
    path = tmp_path / "private.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(KeyFileError, match="cannot verify") as caught:
        load_private_key(path)
    assert "P-256" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "holds no private key"),
        (new_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "holds no"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is damaged"),
    ],
    ids=["empty", "public", "damaged"],
)
def test_what_is_no_key_is_told(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "private.key"
    path.write_text(content)
    with pytest.raises(KeyFileError, match=what) as caught:
        load_private_key(path)
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        load_private_key(tmp_path / "private.key")

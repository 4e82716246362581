"""`config.token_key`: the keys of bound tokens, as people write them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mtls_ambassador.config.token_key import parse_token_keys


def pem(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    password: bytes | None = None,
) -> str:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, lock).decode()


ONE, TWO = (ec.derive_private_key(number, ec.SECP256R1()) for number in (1, 2))


@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_keys_keep_their_order(form: serialization.PrivateFormat) -> None:
    numbers = [key.private_numbers() for key in parse_token_keys(pem(TWO, form) + pem(ONE, form))]
    assert numbers == [TWO.private_numbers(), ONE.private_numbers()]


def test_what_openssl_ecparam_writes_is_read() -> None:
    """`openssl ecparam -genkey -name prime256v1` puts the parameters before the key."""
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key = pem(ONE, serialization.PrivateFormat.TraditionalOpenSSL)
    assert len(parse_token_keys(f"the new one\n{parameters}{key}")) == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "holds no private key"),
        ("secret", "holds no private key"),
        (pem(ONE).replace("-----END PRIVATE KEY-----", ""), "holds no private key"),
        (pem(ONE).replace("M", "!"), "cannot be read"),
        (pem(ONE) + pem(ec.generate_private_key(ec.SECP384R1())), "not on P-256 (number 2)"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "not on P-256"),
        (pem(ONE, password=b"x"), "encrypted"),
        (pem(ONE) + pem(TWO) + pem(ONE, serialization.PrivateFormat.TraditionalOpenSSL), "twice (number 3)"),
    ],
)
def test_anything_else_is_told_with_its_remedy(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=r"; ") as caught:
        parse_token_keys(text)
    assert what in str(caught.value)
    assert "BEGIN" not in str(caught.value)

"""Device keys are parsed, normalised and used as the Mender Server does."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_ambassador.lab.server.keys import KeyRefused, SignatureRefused, parse, verify
from tests.unit.lab.server.peer import PrivateKey, key, pem, sign

CURVES = [ec.SECP224R1(), ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]
KEYS: list[PrivateKey] = [key("rsa"), key("ed25519"), *(ec.generate_private_key(curve) for curve in CURVES)]
PEM = pem(key("p256").public_key())


@pytest.mark.parametrize("private", KEYS, ids=lambda private: type(private).__name__)
class TestEveryKindOfKey:
    def test_has_one_text_form(self, private: PrivateKey) -> None:
        text = pem(private.public_key())
        assert parse(text).pem == text
        head, *lines, foot = text.splitlines()
        crowded = "\n".join(["Bag Attributes", "  friendlyName: x", head, "Comment: y", "", *lines, foot])
        assert parse(crowded).pem == text
        assert parse("\r\n".join([head, "".join(lines), foot])).pem == text
        assert parse(text + text.replace("A", "B")).pem == text

    def test_signs(self, private: PrivateKey) -> None:
        body = b'{"a":1}\n'
        public = parse(pem(private.public_key())).key
        verify(public, sign(private, body), body)
        for bad in (sign(private, body.rstrip()), sign(key("other"), body), "", "x", sign(private, body)[:-4], "ä"):
            with pytest.raises(SignatureRefused, match="signature verification failed"):
                verify(public, bad, body)

    def test_signs_in_the_standard_alphabet(self, private: PrivateKey) -> None:
        public = parse(pem(private.public_key())).key
        bodies = (str(number).encode() for number in range(1000))
        body = next(body for body in bodies if set(sign(private, body)) & set("+/"))
        signature = sign(private, body)
        other = signature.replace("+", "-").replace("/", "_")
        if other != signature:  # ECDSA signs differently each time
            with pytest.raises(SignatureRefused):
                verify(public, other, body)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot decode public key"),
        ("no PEM", "cannot decode public key"),
        (PEM.replace("PUBLIC KEY", "RSA PUBLIC KEY"), "cannot decode public key"),
        (PEM.replace("PUBLIC KEY", "CERTIFICATE"), "cannot decode public key"),
        (PEM.replace("\n", " "), "cannot decode public key"),
        ("x" + PEM, "cannot decode public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot decode public key: x509"),
        ("-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n", "cannot decode public key"),
    ],
)
def test_what_is_no_public_key_is_refused(text: str, reason: str) -> None:
    with pytest.raises(KeyRefused, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("public", "reason"),
    [
        (dsa.generate_private_key(1024).public_key(), "unrecognized public key type"),
        (x25519.X25519PrivateKey.generate().public_key(), "unrecognized public key type"),
        (ed448.Ed448PrivateKey.generate().public_key(), "unknown public key algorithm"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "unsupported elliptic curve"),
    ],
)
def test_keys_that_go_does_not_take_are_refused(public: PublicKeyTypes, reason: str) -> None:
    with pytest.raises(KeyRefused, match=reason):
        parse(pem(public))


def test_lines_of_another_length_are_normalised() -> None:
    private = key("p256")
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----"
    assert parse(text).pem == PEM

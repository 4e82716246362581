"""`tokens.keys`: ids, signatures and the JWK set."""

from __future__ import annotations

import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.tokens.base64url import decode
from mtls_ambassador.tokens.keys import TokenKey, TokenKeys, new_key_pem

ONE, TWO = (ec.derive_private_key(number, ec.SECP256R1()) for number in (1, 2))


def test_the_id_is_the_rfc_7638_thumbprint() -> None:
    """The key of RFC 7515 appendix A.3; its thumbprint as `jose jwk thp` gives it."""
    numbers = int.from_bytes(decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"))
    key = TokenKey.of(ec.derive_private_key(numbers, ec.SECP256R1()))
    assert key.public_jwk["x"] == "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
    assert key.public_jwk["y"] == "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
    assert key.id == "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"


@given(st.binary(max_size=200))
def test_signatures_are_both_numbers_in_64_bytes(message: bytes) -> None:
    signature = TokenKey.of(ONE).sign(message)
    assert len(signature) == 64
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    ONE.public_key().verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        TWO.public_key().verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


def test_the_first_signs_and_all_verify() -> None:
    keys = TokenKeys.of((TWO, ONE))
    assert keys.signing.id == TokenKey.of(TWO).id
    published = json.loads(keys.jwks)["keys"]
    assert [key["kid"] for key in published] == [key.id for key in keys.keys]
    assert {(key["kty"], key["crv"], key["alg"], key["use"]) for key in published} == {("EC", "P-256", "ES256", "sig")}


def test_nothing_private_is_published_or_shown() -> None:
    keys = TokenKeys.of((ONE,))
    assert all("d" not in key for key in json.loads(keys.jwks)["keys"])
    assert "private" not in repr(keys).lower()


def test_new_keys_can_be_read_and_differ() -> None:
    first, second = (TokenKeys.parse(new_key_pem().decode()).signing.id for _ in range(2))
    assert first != second

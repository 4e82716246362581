"""`tokens.bound`: what is wrapped comes out again, and what is no token of Mender's is not wrapped."""

from __future__ import annotations

import json
import string

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.tokens.base64url import decode, encode
from mtls_ambassador.tokens.bound import LONGEST, NotBindableError, bind
from mtls_ambassador.tokens.keys import TokenKey

KEY = TokenKey.of(ec.derive_private_key(1, ec.SECP256R1()))
DIGEST = "0f" * 32
PARTS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=50)


def token(claims: object = None, **more: object) -> bytes:
    """A token as Mender's: only its form counts."""
    content = {"sub": "device", "exp": 1_800_000_000, **more} if claims is None else claims
    body = content if isinstance(content, str) else json.dumps(content)
    return f"{encode(b'{}')}.{encode(body.encode())}.c2ln".encode()


def opened(bound: bytes) -> tuple[dict[str, object], dict[str, object]]:
    """Header and claims of a bound token whose signature is right."""
    signed, _, signature = bound.decode("ascii").rpartition(".")
    raw = decode(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    KEY.private.public_key().verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    header, claims = (json.loads(decode(part)) for part in signed.split("."))
    return header, claims


@given(head=PARTS, signature=PARTS, sub=st.text(max_size=50), exp=st.integers(1, (1 << 53) - 1))
def test_what_is_wrapped_comes_out_again(head: str, signature: str, sub: str, exp: int) -> None:
    inner = f"{head}.{encode(json.dumps({'sub': sub, 'exp': exp}).encode())}.{signature}"
    header, claims = opened(bind(inner.encode(), DIGEST, KEY))
    assert header == {"alg": "ES256", "kid": KEY.id, "typ": "JWT"}
    assert claims == {"iss": "mtls-ambassador", "exp": exp, "cnf": {"x5h": DIGEST}, "mtk": inner}


def test_a_fraction_of_a_second_is_left_out() -> None:
    _, claims = opened(bind(token(exp=1_800_000_000.9), DIGEST, KEY))
    assert claims["exp"] == 1_800_000_000
    assert isinstance(claims["exp"], int)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_or_wrapped_as_they_are(content: bytes) -> None:
    try:
        bound = bind(content, DIGEST, KEY)
    except NotBindableError:
        return
    assert opened(bound)[1]["mtk"] == content.decode("ascii")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"opaque",
        b"a.b",
        b"a.b.c.d",
        b'"' + token() + b'"',
        token() + b"\n",
        token() + b"\r\nX-Evil: 1",
        token().replace(b".c2ln", b".c2 ln"),
        token().replace(b".c2ln", b".c2ln=="),
        token().replace(b".c2ln", b".%0d%0a"),
        token().replace(b".c2ln", "ü".encode()),
        token().replace(b".c2ln", b"."),  # unsigned
        b"\x1f\x8b" + token(),  # compressed
    ],
)
def test_what_is_no_jwt_is_refused(content: bytes) -> None:
    with pytest.raises(NotBindableError, match="no JWT"):
        bind(content, DIGEST, KEY)


@pytest.mark.parametrize("claims", ["", "{", "[" * 5000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")])
def test_claims_that_cannot_be_read_are_refused(claims: str) -> None:
    with pytest.raises(NotBindableError):
        bind(token(claims), DIGEST, KEY)


@pytest.mark.parametrize(
    "claims",
    [
        [],
        {},
        {"exp": None},
        {"exp": True},
        {"exp": "1800000000"},
        {"exp": [1]},
        {"exp": 0},
        {"exp": -1},
        {"exp": 1 << 53},
        {"exp": 1e300},
        '{"exp": NaN}',
        '{"exp": Infinity}',
    ],
)
def test_a_token_without_a_plain_expiry_is_refused(claims: object) -> None:
    with pytest.raises(NotBindableError, match="when it expires"):
        bind(token(claims), DIGEST, KEY)


def test_a_token_that_is_too_long_is_refused() -> None:
    rest = LONGEST - len(token())
    assert bind(token() + b"x" * rest, DIGEST, KEY)
    with pytest.raises(NotBindableError, match="bytes, more than"):
        bind(token() + b"x" * (rest + 1), DIGEST, KEY)


def test_errors_never_repeat_the_token() -> None:
    with pytest.raises(NotBindableError) as caught:
        bind(b"secret-secret", DIGEST, KEY)
    assert "secret-secret" not in str(caught.value)

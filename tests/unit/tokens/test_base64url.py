"""`tokens.base64url`: there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.tokens.base64url import decode, encode


@given(st.binary(max_size=100))
def test_round_trip(raw: bytes) -> None:
    text = encode(raw)
    assert decode(text) == raw
    assert not set(text) & set("+/=")


@pytest.mark.parametrize("text", ["a", "ab!d", "ü", "ab cd"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)

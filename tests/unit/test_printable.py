"""`printable`: what a terminal would obey is seen instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.printable import escaped


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\t", "a\\nb\\t"),
        ("\u202eabc", "\\u202eabc"),
        ("\x9b", "\\x9b"),
        ("\u200b\u2066\u2028", "\\u200b\\u2066\\u2028"),
        ("é日 x", "é日 x"),
    ],
)
def test_what_it_looks_like(raw: str, safe: str) -> None:
    assert escaped(raw) == safe


@given(st.text())
def test_nothing_that_is_escaped_is_unprintable(raw: str) -> None:
    assert escaped(raw).isprintable()

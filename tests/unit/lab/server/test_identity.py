"""Two identities are one device exactly when their normal forms are equal."""

from __future__ import annotations

import hashlib

import pytest

from mtls_ambassador.lab.server.godecode import DecodeError
from mtls_ambassador.lab.server.identity import from_map, from_text


@pytest.mark.parametrize(
    ("id_data", "text"),
    [
        ('{"b":1,"a":2}', '{"a":2,"b":1}'),
        (' {"a" : 1.0 , "n" : {"z":[1.50],"y":null} } ', '{"a":1,"n":{"y":null,"z":[1.5]}}'),
        ('{"a":"1"}', '{"a":"1"}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('{"a":1,"A":2}', '{"A":2,"a":1}'),
        ('{"a":"\\u003c<"}', '{"a":"\\u003c\\u003c"}'),
        ('{"serial":12345678901234567890}', '{"serial":12345678901234567000}'),
        ("{}", "{}"),
        ("null", "null"),
    ],
)
def test_normal_form(id_data: str, text: str) -> None:
    found = from_text(id_data)
    assert found.text == text
    assert found.digest == hashlib.sha256(text.encode()).hexdigest()
    assert from_text(text) == found


def test_null_has_no_members() -> None:
    assert from_text("null").data is None
    assert from_text("{}").data == {}


def test_the_forms_of_auth_request_and_preauthorization_match() -> None:
    assert from_map({"b": 1.0, "a": "<"}).digest == from_text('{"a":"<","b":1}').digest


@pytest.mark.parametrize("id_data", ["", "x", "[]", '"a"', "1", "true", "{} {}", '{"a":1e999}'])
def test_what_is_no_object_is_refused(id_data: str) -> None:
    with pytest.raises(DecodeError):
        from_text(id_data)

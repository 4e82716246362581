"""JSON is written as Go's encoding/json writes it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.lab.server.goencode import marshal, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (100.0, "100"),
        (123456789.125, "123456789.125"),
        (9007199254740993.0, "9007199254740992"),
        (1e20, "100000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (-1.25e21, "-1.25e+21"),
        (1e100, "1e+100"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (1e-6, "0.000001"),
        (0.00000123, "0.00000123"),
        (1e-7, "1e-7"),
        (9.5e-7, "9.5e-7"),
        (1.5e-10, "1.5e-10"),
        (5e-324, "5e-324"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
    assert marshal(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_keeps_its_value_and_has_an_exponent_only_outside_the_range(value: float) -> None:
    text = number(value)
    assert float(text) == value
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?(e[+-][1-9][0-9]*)?", text)
    assert ("e" in text) == (value != 0 and not 1e-6 <= abs(value) < 1e21)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<a>&b", r'"\u003ca\u003e\u0026b"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ('"\\/', r'"\"\\/"'),
        ("\b\f\n\r\t\x00\x1f\x7f", '"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"'),
        ("Straße \U0001f600", '"Straße \U0001f600"'),
    ],
)
def test_strings(value: str, text: str) -> None:
    assert marshal(value) == text


def test_maps_are_sorted_by_code_point_and_structs_keep_their_order() -> None:
    value = {"b": 1, "a": {"\uffff": 1, "\U00010000": 2, "Z": 3}}
    assert marshal(value, sort_keys=True) == '{"a":{"Z":3,"\uffff":1,"\U00010000":2},"b":1}'
    assert marshal({"b": [], "a": (None, True, False, 1)}) == '{"b":[],"a":[null,true,false,1]}'


def test_what_has_no_form_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        marshal(object())


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans()))
def test_the_text_is_json(value: dict[str, object]) -> None:
    assert json.loads(marshal(value)) == value

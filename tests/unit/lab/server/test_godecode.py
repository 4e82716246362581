"""JSON is read as Go's encoding/json reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.lab.server.godecode import DecodeError, Json, Number, Object, as_struct, as_value, decode


def struct(text: str) -> Object:
    return as_struct(decode(text.encode()))


class TestFields:
    def test_match_without_regard_to_case_and_the_last_wins(self) -> None:
        assert struct('{"id_data":"A","ID_DATA":"B"}').string("id_data") == "B"
        assert struct('{"ID_DATA":"B","id_data":"A"}').string("id_data") == "A"

    def test_fold_single_characters_as_go_does(self) -> None:
        assert struct('{"pub\u212aey":"A"}').string("pubkey") == "A"  # KELVIN SIGN is a k
        assert struct('{"\u017ftatus":"A"}').string("status") == "A"  # LONG S is an s
        assert struct('{"pa\u00df":"A"}').string("pass") == ""  # but no character becomes two

    def test_null_leaves_what_was_there(self) -> None:
        assert struct('{"a":"x","A":null}').string("a") == "x"
        assert struct('{"a":true,"A":null}').boolean("a") is True
        assert struct('{"a":{"b":1},"A":null}').mapping("a") is None

    def test_maps_are_merged(self) -> None:
        assert struct('{"a":{"x":1,"y":1},"A":{"y":2}}').mapping("a") == {"x": 1, "y": 2}

    def test_absent_ones_are_zero(self) -> None:
        empty = struct("{}")
        assert (empty.string("a"), empty.boolean("a"), empty.integer("a")) == ("", False, 0)
        assert empty.mapping("a") is None
        assert empty.anything("a") is None

    @pytest.mark.parametrize("text", ['{"a":1}', '{"a":1,"A":"x"}', '{"a":["x"]}', '{"a":{}}', '{"a":true}'])
    def test_of_another_type_are_refused_even_if_overwritten(self, text: str) -> None:
        with pytest.raises(DecodeError, match="Go struct field a of type string"):
            struct(text).string("a")

    @pytest.mark.parametrize("number", ["1.0", "1e3", "99999999999999999999", '"1"'])
    def test_integers_are_written_as_integers(self, number: str) -> None:
        with pytest.raises(DecodeError):
            struct(f'{{"a":{number}}}').integer("a")

    def test_null_is_an_empty_struct(self) -> None:
        assert as_struct(None) == Object()

    @pytest.mark.parametrize("value", [[], "x", True, Number("1")])
    def test_nothing_else_is_a_struct(self, value: Json) -> None:
        with pytest.raises(DecodeError, match="into Go value of type struct"):
            as_struct(value)


class TestText:
    @pytest.mark.parametrize(
        "text", ["", " ", "{", '{"a"', "{'a':1}", "01", "NaN", "Infinity", "-Infinity", '"\t"', "{} x", "[1,]", "+1"]
    )
    def test_that_go_refuses_is_refused(self, text: str) -> None:
        with pytest.raises(DecodeError):
            decode(text.encode())

    def test_deeper_than_go_goes_is_refused(self) -> None:
        with pytest.raises(DecodeError):
            decode(b"[" * 100_000)

    def test_a_byte_order_mark_is_refused(self) -> None:
        with pytest.raises(DecodeError):
            decode(b"\xef\xbb\xbf{}")

    @pytest.mark.parametrize("rest", ["", " ", " x", "}", "{}"])
    def test_the_rest_of_a_stream_is_ignored(self, rest: str) -> None:
        assert decode(f' {{"a":"b"}}{rest}'.encode(), stream=True) == Object((("a", "b"),))

    def test_bytes_that_are_not_utf8_become_one_replacement_each(self) -> None:
        assert decode(b'"a\xe2\x82b\xff"') == "a\ufffd\ufffdb\ufffd"

    def test_half_a_surrogate_pair_becomes_a_replacement(self) -> None:
        assert decode(rb'"\ud83d\ude00 \ud83d \ude00"') == "\U0001f600 \ufffd \ufffd"
        assert as_value(decode(rb'{"\ud800":["\udc00"]}')) == {"\ufffd": ["\ufffd"]}

    def test_a_number_out_of_range_matters_only_where_it_is_read(self) -> None:
        value = struct('{"a":1e400,"b":"x"}')
        assert value.string("b") == "x"
        with pytest.raises(DecodeError, match="cannot unmarshal number 1e400"):
            as_value(value)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        )
    )
    def test_ordinary_json_is_read_as_by_everyone(self, value: object) -> None:
        assert as_value(decode(json.dumps(value).encode())) == value

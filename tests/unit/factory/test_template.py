from __future__ import annotations

import pytest

from mtls_ambassador.factory.errors import BatchError, RowError
from mtls_ambassador.factory.template import parse


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("device-{n:06}", {"n": 42}, "device-000042"),
        ("{serial}.devices.example.com", {"serial": " A1 ", "mac": ""}, "A1.devices.example.com"),
        ("{{{serial}}}", {"serial": "x"}, "{x}"),
        ("{serial:>4}-{n}", {"serial": "7", "n": 3}, "   7-3"),
        # Columns of CSV are text, and numbers all the same.
        ("dev-{serial:06}", {"serial": "42"}, "dev-000042"),
        ("dev-{serial:06}", {"serial": " 4200 "}, "dev-004200"),
        ("{serial:06d}", {"serial": "0042"}, "000042"),
        ("{serial:x}", {"serial": "255"}, "ff"),
        ("{serial:0>6}", {"serial": "A42"}, "000A42"),
        ("{serial:.2}", {"serial": "0042"}, "00"),
        ("{serial}", {"serial": "0042"}, "0042"),
        ("same", {}, "same"),
        ("{Serial Number}", {"Serial Number": "9"}, "9"),
    ],
)
def test_columns_are_put_in(text: str, fields: dict[str, object], expected: str) -> None:
    assert parse(text).fill(fields) == expected


@pytest.mark.parametrize("text", ["{", "}", "{}", "{0.real}", "{n.__class__}", "{n[0]}", "{n!r}", "{n:{width}}", "a{b"])
def test_only_plain_columns_are_taken(text: str) -> None:
    with pytest.raises(BatchError, match="template"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "fields", "what"),
    [
        ("{serial}", {"mac": "1", "n": "2"}, "has no column serial, only mac, n"),
        ("{serial}", {"serial": "  "}, "has no serial"),
        ("{serial}", {"serial": None}, "has no serial"),
        ("{serial}", {"serial": True}, "serial is neither text nor a whole number"),
        ("{serial}", {"serial": 1.5}, "serial is neither text nor a whole number"),
        ("{serial}", {"serial": ["a"]}, "serial is neither text nor a whole number"),
        ("{serial:06d}", {"serial": "a"}, r"serial 'a' is no whole number; to fill text with zeros: \{serial:0>6\}"),
        ("{serial:06}", {"serial": "A42"}, "serial 'A42' is no whole number"),
        ("{serial:06}", {"serial": "-42"}, "is no whole number"),
        ("{serial:06}", {"serial": "\N{ARABIC-INDIC DIGIT FOUR}"}, "is no whole number"),
        ("{serial:06}", {"serial": "9" * 5000}, "does not take the format"),
        ("{serial:q}", {"serial": "a"}, "does not take the format"),
    ],
)
def test_a_row_that_does_not_fit_is_told(text: str, fields: dict[str, object], what: str) -> None:
    with pytest.raises(RowError, match=what):
        parse(text).fill(fields)

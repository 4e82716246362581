"""What is accepted as JSON is read by Mender's decoder as it is read here; all else is refused."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtls_ambassador.admission.strict_json import AmbiguousJsonError, parse_object
from mtls_ambassador.lab.server.godecode import as_map, as_struct, decode
from mtls_ambassador.lab.server.goencode import marshal

SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
OBJECTS = st.dictionaries(
    st.text(),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)),
    max_size=4,
)
# What makes parsers differ: structure, escapes, numbers, white space, control characters and invalid UTF-8.
PIECES = st.sampled_from(
    (
        *'{}[]:,"\\/ \t\r\n\x00\x0b\x0c\x1f\x7f\xa0\u2028\ufeff\ufffd',
        *(
            "null",
            "true",
            "NaN",
            "Infinity",
            "-Infinity",
            "-",
            "0",
            "-0",
            "01",
            "1",
            "+1",
            ".5",
            "1.",
            "1e400",
            "1e-400",
        ),
        *("0x1", "1_0", "٣", "2e1", "E", "e", "\\u", "\\ud800", "\\udc00", "\\x41", '"a":', '"A":', '"\\u0061":'),
        *("//", "/**/", "'a'"),
    )
)


def as_mender_reads(text: str) -> str:
    return marshal(as_map(as_struct(decode(text.encode()))), sort_keys=True)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("{}", {}),
        (' \t\r\n{"a":1}\n', {"a": 1.0}),
        ('{"a":"\\u0041\\ud83d\\ude00\\/\\n"}', {"a": "A\U0001f600/\n"}),
        ('{"a":[null,true,false,{"b":[]}]}', {"a": [None, True, False, {"b": []}]}),
        ('{"a":9007199254740993}', {"a": 9007199254740992.0}),
        ('{"a":1e-400}', {"a": 0.0}),
        ('{"":0,"A":1,"a":2}', {"": 0.0, "A": 1.0, "a": 2.0}),
        ('{"a":' + "1" * 5000 + "e-4999}", {"a": 1.1111111111111112}),
    ],
)
def test_accepted(text: str, content: dict[str, Any]) -> None:
    assert parse_object(text) == content


def test_numbers_are_doubles() -> None:
    content = parse_object('{"a":1,"b":-0,"c":1.5}')
    assert [type(value) for value in content.values()] == [float, float, float]
    assert math.copysign(1, content["b"]) == -1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[]",
        '"a"',
        "1",
        "true",
        "{",
        "}",
        '{"a":1',
        '{"a":1}x',
        '{"a":1}{}',
        '{"a":1},',
        '{"a":1}\x00',
        '\ufeff{"a":1}',
        '\xa0{"a":1}',
        '{"a":1}\xa0',
        "{a:1}",
        "{'a':1}",
        '{"a":1,}',
        '{"a"}',
        '{"a":}',
        "{1:2}",
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e400}',
        '{"a":-1e309}',
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":1.}',
        '{"a":0x1}',
        '{"a":1_0}',
        '{"a":"\t"}',
        '{"a":"\x00"}',
        '{"a":"\\x41"}',
        '{"a":"\\u00"}',
        "{\"a\":'b'}",
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":2}',
        '{"b":{"a":1,"a":2}}',
        '{"b":[{"a":1,"a":2}]}',
        '{"a":1/**/}',
        '{"a":٣}',
        '{"a":"\\ud800"}',
        '{"\\udc00":1}',
        '{"a":["\\udc00\\ud800"]}',
        '{"a":{"b":"x\\ud83d"}}',
        '{"a":tru}',
        '{"a":"b}',
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(AmbiguousJsonError):
        parse_object(text)


@pytest.mark.parametrize("depth", [31, 32, 33, 200, 300, 400, 500, 700, 900, 990, 1000, 2000, 9000, 30000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_refused_or_read_never_a_crash(depth: int, opened: str, closed: str) -> None:
    text = '{"a":' + opened * depth + "1" + closed * depth + "}"
    with contextlib.suppress(AmbiguousJsonError):
        assert list(parse_object(text)) == ["a"]


def test_the_error_quotes_nothing_of_the_text() -> None:
    for text in ('{"a":secret}', '{"secret":1,"secret":2}', '{"secret":NaN}', "secret"):
        with pytest.raises(AmbiguousJsonError) as caught:
            parse_object(text)
        assert "secret" not in str(caught.value)


@given(OBJECTS)
def test_every_object_is_accepted(content: dict[str, Any]) -> None:
    text = json.dumps(content)
    assert parse_object(text) == content
    assert marshal(parse_object(text), sort_keys=True) == as_mender_reads(text)


@given(OBJECTS, st.lists(st.tuples(st.integers(0, 400), st.booleans(), PIECES), min_size=1, max_size=4), st.booleans())
@example({"a": 1.0}, [(5, False, "1e400")], True)
@example({"a": "x"}, [(6, False, "\\ud800")], True)
@example({"a": 1.0}, [(1, False, '"\\u0061":2,')], True)
def test_mender_reads_what_is_accepted_in_the_same_way(
    content: dict[str, Any], changes: list[tuple[int, bool, str]], ascii_only: bool
) -> None:
    """The property that all else rests on: there is no second reading of an accepted text."""
    text = json.dumps(content, ensure_ascii=ascii_only)
    for position, replaces, piece in changes:
        place = position % (len(text) + 1)
        text = text[:place] + piece + text[place + replaces :]
    try:
        read = parse_object(text)
    except AmbiguousJsonError:
        return
    assert marshal(read, sort_keys=True) == as_mender_reads(text)

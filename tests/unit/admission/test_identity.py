"""The normal form of identities is Mender's: two spellings are one device here exactly if they are one device there."""

from __future__ import annotations

import contextlib
import json
import math
import random
import unicodedata
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.identity import format_double, normal_form, parse_identity
from mtls_ambassador.lab.server.goencode import marshal
from mtls_ambassador.lab.server.identity import from_text
from mtls_ambassador.refusals import RefusalReason

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | FLOATS | st.integers(-(2**70), 2**70) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
IDENTITIES = st.dictionaries(st.text(), VALUES, min_size=1, max_size=4)


def go_number(number: float) -> str:
    """Go's encoding/json, floatEncoder, from its own description: an independent model of `format_double`."""
    shortest = next(f"{number:.{size}e}" for size in range(17) if float(f"{number:.{size}e}") == number)
    mantissa, _, power = shortest.partition("e")
    if number != 0 and not 1e-6 <= abs(number) < 1e21:
        return f"{mantissa}e{power[0]}{power[1:].lstrip('0')}"
    digits, point = mantissa.lstrip("-").replace(".", ""), int(power) + 1
    whole = digits[:point].ljust(point, "0") if point > 0 else "0"
    fraction = digits[point:] if point > 0 else "0" * -point + digits
    return ("-" if mantissa.startswith("-") else "") + whole + (f".{fraction}" if fraction else "")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (100.0, "100"),
        (float(2**53 + 1), "9007199254740992"),
        (1e20, "100000000000000000000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (-1e21, "-1e+21"),
        (1.25e22, "1.25e+22"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (-1.5e-7, "-1.5e-7"),
        (9.99e-7, "9.99e-7"),
        (1e-10, "1e-10"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (123456.789, "123456.789"),
        (1e100, "1e+100"),
    ],
)
def test_numbers_as_go_writes_them(number: float, text: str) -> None:
    assert format_double(number) == text


@given(FLOATS)
def test_every_number_as_go_writes_it(number: float) -> None:
    text = format_double(number)
    assert text == go_number(number)
    assert text == marshal(number)
    assert float(text) == number
    assert math.copysign(1, float(text)) == math.copysign(1, number)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_text_for_what_is_not_json(number: float) -> None:
    with pytest.raises(TypeError):
        format_double(number)
    with pytest.raises(TypeError):
        normal_form({"a": number})


def test_no_text_for_other_types() -> None:
    with pytest.raises(TypeError):
        normal_form({"a": object()})


@pytest.mark.parametrize(
    ("id_data", "normal"),
    [
        ('{"mac":"52:54:00:12:34:56"}', '{"mac":"52:54:00:12:34:56"}'),
        ('{ "b" : 1.0 , "a" : [ 2e1, null ] }', '{"a":[20,null],"b":1}'),
        ('{"a":"<&>\\u2028\\u2029\\u00e9\\/\\t\\u0001"}', '{"a":"\\u003c\\u0026\\u003e\\u2028\\u2029é/\\t\\u0001"}'),
        ('{"\uffff":1,"\U00010000":2,"Z":3}', '{"Z":3,"\uffff":1,"\U00010000":2}'),
        ('{"a":9007199254740993}', '{"a":9007199254740992}'),
        ('{"a":true,"b":{"d":false,"c":{}}}', '{"a":true,"b":{"c":{},"d":false}}'),
    ],
)
def test_normal_form(id_data: str, normal: str) -> None:
    identity = parse_identity(id_data)
    assert identity.normal_form == normal
    assert str(identity) == normal


def test_text_and_number_are_two_identities() -> None:
    assert parse_identity('{"n":"1"}').normal_form != parse_identity('{"n":1}').normal_form


@pytest.mark.parametrize(
    "id_data", ["", "null", "{}", "[]", "x", '"{}"', '{"a":1,"a":2}', '{"a":"\\ud800"}', '{"a":1}{}']
)
def test_what_is_no_identity_is_refused(id_data: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_identity(id_data)
    assert caught.value.reason is RefusalReason.MALFORMED
    assert caught.value.detail.startswith("id_data: ")


@pytest.mark.parametrize("depth", [300, 400, 700, 990, 5000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused_or_read_never_a_crash(depth: int, opened: str, closed: str) -> None:
    id_data = '{"a":' + opened * depth + "1" + closed * depth + "}"
    with contextlib.suppress(Refused):
        assert parse_identity(id_data).normal_form == id_data


@given(IDENTITIES)
def test_agrees_with_mender(attributes: dict[str, Any]) -> None:
    id_data = json.dumps(attributes)
    assert parse_identity(id_data).normal_form == from_text(id_data).text


@given(IDENTITIES)
def test_what_is_sent_to_mender_for_preauthorisation_is_the_same_identity(attributes: dict[str, Any]) -> None:
    identity = parse_identity(json.dumps(attributes))
    sent = json.dumps(identity.attributes, ensure_ascii=False)
    assert from_text(sent).text == identity.normal_form


@given(IDENTITIES)
def test_is_its_own_normal_form(attributes: dict[str, Any]) -> None:
    normal = parse_identity(json.dumps(attributes)).normal_form
    assert parse_identity(normal).normal_form == normal


@given(IDENTITIES, st.randoms(use_true_random=False), st.booleans(), st.sampled_from([None, 0, 3, "\t"]))
def test_spelling_does_not_matter(
    attributes: dict[str, Any], chance: random.Random, ascii_only: bool, indent: int | str | None
) -> None:
    respelled = json.dumps(shuffled(attributes, chance), ensure_ascii=ascii_only, indent=indent)
    assert parse_identity(respelled).normal_form == parse_identity(json.dumps(attributes)).normal_form


@given(IDENTITIES, IDENTITIES)
def test_two_identities_have_two_normal_forms(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compared as Mender would: by value, numbers as doubles, a truth value is no number."""
    first, second = parse_identity(json.dumps(one)), parse_identity(json.dumps(other))
    same = typed(first.attributes) == typed(second.attributes)
    assert (first.normal_form == second.normal_form) == same


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {name: shuffled(value[name], chance) for name in names}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


def typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: typed(member) for name, member in value.items()}
    if isinstance(value, list):
        return [typed(member) for member in value]
    return type(value), repr(value)


SPELLED_NUMBERS = ["1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1", "1.000", "100e-2"]


@pytest.mark.parametrize("spelled", SPELLED_NUMBERS)
def test_a_number_has_one_normal_form(spelled: str) -> None:
    assert parse_identity(f'{{"n":{spelled}}}').normal_form == '{"n":1}' == from_text(f'{{"n":{spelled}}}').text


@given(IDENTITIES, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_unicode_is_not_normalised(attributes: dict[str, Any], form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> None:
    """Mender does not: what looks the same may be two devices."""
    id_data = json.dumps({**attributes, "name": "Ge\u0301ra\u00e4t\u212b"}, ensure_ascii=False)
    other = unicodedata.normalize(form, id_data)
    assume(other != id_data)
    with contextlib.suppress(Refused):  # two names may have become one
        assert parse_identity(other).normal_form != parse_identity(id_data).normal_form


@settings(max_examples=10)
@given(st.text(min_size=1, max_size=8), st.integers(0, 600))
def test_very_long_values_count_to_their_end(piece: str, place: int) -> None:
    value = (piece * 600)[:600]
    changed = f"{value[:place]}\x00{value[place:]}"
    one, other = (parse_identity(json.dumps({"a": text})) for text in (value, changed))
    assert one.normal_form != other.normal_form
    assert one.normal_form == parse_identity(json.dumps({"a": value}, ensure_ascii=False, indent=1)).normal_form


@pytest.mark.parametrize("value", ["x" * 5000, "&" * 1000, "\N{GRINNING FACE}" * 5000])
def test_an_identity_that_is_longer_than_any_device_s_is_refused(value: str) -> None:
    """It is kept in memory, ledger and audit log, and one escaped is six times as long as it came."""
    with pytest.raises(Refused) as caught:
        parse_identity(json.dumps({"mac": value}, ensure_ascii=False))
    assert caught.value.reason is RefusalReason.MALFORMED
    assert len(caught.value.detail) < 100

"""`config.pattern`: patterns that people need are taken; none is taken that a value could keep busy."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.config.pattern import LONGEST_VALUE, compile_pattern, possible_lengths

GOOD = [
    r"dev-(?P<serial>[0-9]{8})",
    r"(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})",
    r"(?P<mac>(?:[0-9A-F]{2}[:-]?){6})",
    r"(?P<serial>.+)\.devices\.example\.com",
    r"(?P<line>[^.]{1,40})\.(?P<serial>[^.]{1,40})\.(?P<plant>[^.]{1,40})\.example\.com",
    r"(?:prod|test)-(?P<serial>\d+)",
    r"urn:uuid:(?P<id>[0-9a-f-]{36})",
    r"[]|*+]{3}(?P<x>[^]]*)\{2,\}[\]\\]?",
    r"(?P<x>a{,3}b{2,}c{}d{x}e{)",
    r"(?P<x>a+?b*+)",
    r"^(?P<x>a)$",
]
EVIL = [
    r"(?P<x>(a+)+)$",
    r"(?P<x>(?:a|a)*)b",
    r"(?P<x>(a|aa)+)$",
    r"(?P<x>(?:a*)*)b",
    r"(?P<x>(?:a?){40}a{40})",
    r"(?P<x>(?:a?){16}a{16})",
    r"(?P<x>.*.*.*)=",
    r"(?P<x>(?:.*a){20})",
    r"(?P<x>([a-z]+)*)\.(([0-9]?)+)",
    r"(?P<x>(?:(?:(?:){99}){99}){99})",
    r"(?P<x>(?:a{1,200}){1,200})",
    r"(?P<x>(?:ab|a|b){1,30}c)",
]


@pytest.mark.parametrize("pattern", GOOD)
def test_takes_what_people_need_and_finishes(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.pattern == pattern
    for piece in ("a", "0", "ab", "a.", "-", "f:", "aa="):
        compiled.fullmatch((piece * LONGEST_VALUE)[:LONGEST_VALUE])


@pytest.mark.parametrize("pattern", EVIL)
def test_what_could_keep_the_edge_busy_is_refused(pattern: str) -> None:
    re.compile(pattern)
    with pytest.raises(ValueError, match=r"could take very long.*; say how often at most"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"(?:a?){9}a{9}b", r"(?:a|a){9}b", r"a{0,40}a{0,40}a{0,40}b", ".*.*b"])
def test_the_slowest_that_are_taken_finish(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    for length in (8, 9, 10, 17, 18, 39, 120, LONGEST_VALUE):
        assert compiled.fullmatch("a" * length) is None


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("(", "is no regular expression: missing )"),
        ("a**", "is no regular expression: multiple repeat"),
        ("(?P<x>a)(?P<x>b)", "is no regular expression: redefinition"),
        ("(?P<1>a)", "is no regular expression: bad character"),
        ("[z-a]", "is no regular expression: bad character range"),
        ("a{99999999999}", "is no regular expression"),
        (r"(a)\1", "holds a backreference"),
        ("(?P<x>a)(?P=x)", r"holds (?P; rules know only the groups"),
        ("(?=a)b", "holds (?=; "),
        ("(?<=a)b", "holds (?<; "),
        ("(?i)b", "holds (?i; "),
        ("(?i:b)", "holds (?i; "),
        ("(?#x)b", "holds (?#; "),
        ("(?>a)", "holds (?>; "),
        ("a" * 513, "has 513 characters; "),
    ],
)
def test_what_it_does_not_know_is_refused(pattern: str, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        compile_pattern(pattern)


def test_letters_and_digits_are_those_of_ascii() -> None:
    assert compile_pattern(r"\d").fullmatch("٣") is None
    assert compile_pattern("k", ignore_case=True).fullmatch("K")
    assert compile_pattern("k", ignore_case=True).fullmatch("\u212a") is None  # the Kelvin sign
    assert compile_pattern("k").fullmatch("K") is None


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        ("", {0}),
        ("DEV-[0-9]+", set()),
        ("a|DEV-0", {1}),
        ("(?:DEV-)?[0-9]{2}", {2}),
        ("[^0-9a-f]{,3}a{4,5}?", {4, 5}),
        ("(?P<x>..){2,3}0", {5, 7}),
        (r"\x61\u0062\U00000063\N{DIGIT ONE}\d", {5}),
        (r"\x47\u0047\N{LATIN SMALL LETTER G}", set()),
        (r"^a\b$", {1}),
        (r"[]\]x-]|[\da]{2}|\.", {2}),
        ("a*+b++", set(range(1, LONGEST_VALUE + 1))),
        ("a{x}", set()),
        ("(?:a{100}){3}", set()),
    ],
)
def test_how_long_a_text_of_hex_digits_may_be(pattern: str, lengths: set[int]) -> None:
    assert possible_lengths(compile_pattern(pattern), "0123456789abcdef") == lengths


def test_case_counts_unless_it_is_ignored() -> None:
    assert possible_lengths(compile_pattern("AB"), "ab") == set()
    assert possible_lengths(compile_pattern("AB", ignore_case=True), "ab") == {2}


SHORT = ["".join(text) for length in range(5) for text in itertools.product("a0", repeat=length)]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of a class such as [[a]
@given(st.text("a0bG[]^-()|*+?{}12,.$\\dxswAB:", max_size=12), st.booleans())
def test_no_length_is_missing(pattern: str, ignore_case: bool) -> None:
    try:
        regex = compile_pattern(pattern, ignore_case=ignore_case)
    except ValueError:
        return
    lengths = possible_lengths(regex, "a0")
    assert {len(text) for text in SHORT if regex.fullmatch(text)} <= lengths

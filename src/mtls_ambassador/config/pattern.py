"""Regular expressions that no value can make slow. Pure.

Python's `re` tries one way through a pattern after the other, and cannot be interrupted. So a pattern is taken only if
the number of ways through it is small for every value up to `LONGEST_VALUE`, which rules out nested repetition. A value
that is longer is never matched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, Self, TypeVar

LONGEST_VALUE = 256
"""Characters; RFC 5280 (appendix A.1) allows 64 in a common name, RFC 1035 255 in a DNS name."""
LONGEST_PATTERN = 512
_MOST_WAYS = 100_000
_NESTED = 100
"""What a way through a repeated choice or repetition counts: it takes so much longer than one through `[a-z]+`."""
_MOST_STEPS = 10_000

_REPEAT = re.compile(r"\*|\+|\?|\{(?!\})([0-9]*)(?:(,)([0-9]*))?\}")
_GROUP = re.compile(r"\((?:\?:|\?P<[^>]*>|(?!\?))")
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|N\{[^}]*\}|.)", re.DOTALL)
_ANCHORS = frozenset({"^", "$", r"\A", r"\Z", r"\z", r"\b", r"\B"})
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    r"""Compile a pattern that is certainly fast.

    Args:
        pattern: Python's syntax without lookaround, backreferences and flags. `\d` and the like are ASCII only.
        ignore_case: The letters A to Z have no case.

    Raises:
        ValueError: it does not compile, uses something else, or might be slow; the text says what to do after `; `.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"has {len(pattern)} characters; write at most {LONGEST_PATTERN}")
    try:
        compiled = re.compile(pattern, re.ASCII | (re.IGNORECASE if ignore_case else re.NOFLAG))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {error}; mend it there") from None
    cost = _Reader(pattern, atom=lambda _: _Cost(1, 1), nothing=_Cost(1, 1)).read()
    if cost.ways > _MOST_WAYS or cost.steps > _MOST_STEPS:
        raise ValueError(
            "could take very long on some values; say how often at most ({1,20} in place of + or *), "
            "and repeat nothing that holds a repetition or a choice itself"
        )
    return compiled


def possible_lengths(regex: re.Pattern[str], characters: str) -> AbstractSet[int]:
    """How long texts of these characters may be that it matches as a whole; up to `LONGEST_VALUE`.

    Never too few: a text that an anchor or a possessive repetition excludes may be counted all the same.

    Args:
        regex: From `compile_pattern`.
        characters: A text holds no others.
    """
    found = _Reader(
        regex.pattern,
        atom=partial(_atom_lengths, flags=regex.flags & (re.ASCII | re.IGNORECASE), characters=characters),
        nothing=_Lengths(1),
    ).read()
    return frozenset(length for length in range(LONGEST_VALUE + 1) if found.bits >> length & 1)


class _Part(Protocol):
    """What is known of a part of a pattern, put together out of what is known of its parts."""

    def then(self, other: Self) -> Self:
        """Of this part and another after it."""

    def otherwise(self, other: Self) -> Self:
        """Of a choice between the two."""

    def repeated(self, least: int, most: int) -> Self:
        """Of this part so many times."""


_P = TypeVar("_P", bound=_Part)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """How long a text may be that a part matches."""

    bits: int
    """Bit n: n characters."""

    def then(self, other: _Lengths) -> _Lengths:
        sums, left = 0, other.bits
        while left:
            lowest = left & -left
            sums |= self.bits * lowest
            left ^= lowest
        return _Lengths(sums & ((2 << LONGEST_VALUE) - 1))

    def otherwise(self, other: _Lengths) -> _Lengths:
        return _Lengths(self.bits | other.bits)

    def repeated(self, least: int, most: int) -> _Lengths:
        found = _Lengths(1)
        for number in range(max(least, min(most, LONGEST_VALUE))):
            longer = found.then(self if number < least else self.otherwise(_Lengths(1)))
            if longer == found:
                break
            found = longer
        return found


def _atom_lengths(atom: str, *, flags: int, characters: str) -> _Lengths:
    if atom in _ANCHORS:
        return _Lengths(1)
    one = re.compile(atom, flags)
    return _Lengths(2 if any(one.fullmatch(character) for character in characters) else 0)


@dataclass(frozen=True, slots=True)
class _Cost:
    """How much work a part of a pattern can be, for values up to the longest."""

    ways: int
    """Through it: what backtracking may try one after the other. Counted no further than needed."""
    steps: int
    """On the longest way."""

    def then(self, other: _Cost) -> _Cost:
        return _Cost(_capped(self.ways * other.ways), _capped(self.steps + other.steps))

    def otherwise(self, other: _Cost) -> _Cost:
        return _Cost(_capped(self.ways + other.ways), max(self.steps, other.steps))

    def repeated(self, least: int, most: int) -> _Cost:
        most = max(min(most, LONGEST_VALUE), least)
        steps = _capped(self.steps * most)
        if self.ways == 1:
            return _Cost(_capped(most - least + 1), steps)
        ways = 0
        for times in range(least, most + 1):
            # Two ways already are too many when they can be chosen this often.
            ways += self.ways**times if times <= _MOST_WAYS.bit_length() else _MOST_WAYS + 1
            if ways > _MOST_WAYS:
                break
        return _Cost(_capped(ways * _NESTED), steps)


def _capped(number: int) -> int:
    return min(number, max(_MOST_WAYS, _MOST_STEPS) + 1)


class _Reader(Generic[_P]):
    """Reads a pattern that compiles, part by part.

    Args:
        pattern: It.
        atom: What is known of a single character, class or anchor.
        nothing: What is known of no text at all.
    """

    def __init__(self, pattern: str, atom: Callable[[str], _P], nothing: _P) -> None:
        self._pattern = pattern
        self._of_atom = atom
        self._nothing = nothing
        self._at = 0

    def read(self) -> _P:
        return self._alternatives()

    def _alternatives(self) -> _P:
        part = self._sequence()
        while self._next() == "|":
            self._at += 1
            part = part.otherwise(self._sequence())
        return part

    def _sequence(self) -> _P:
        part = self._nothing
        while self._next() not in ("", "|", ")"):
            part = part.then(self._repetition(self._atom()))
        return part

    def _atom(self) -> _P:
        character = self._next()
        if character == "(":
            return self._group()
        begun = self._at
        if character == "[" and (found := _CLASS.match(self._pattern, begun)):
            self._at = found.end()
        elif character == "\\" and (found := _ESCAPE.match(self._pattern, begun)):
            if self._pattern[begun + 1] in "0123456789":
                raise ValueError("holds a backreference; rules know none")
            self._at = found.end()
        else:
            self._at += 1
        return self._of_atom(self._pattern[begun : self._at])

    def _group(self) -> _P:
        found = _GROUP.match(self._pattern, self._at)
        if found is None:
            raise ValueError(
                f"holds {self._pattern[self._at : self._at + 3]}; rules know only the groups (...), (?:...) and "
                "(?P<name>...)"
            )
        self._at = found.end()
        part = self._alternatives()
        self._at += 1  # its closing bracket, since the pattern compiles
        return part

    def _repetition(self, part: _P) -> _P:
        found = _REPEAT.match(self._pattern, self._at)
        if found is None:
            return part
        self._at = found.end()
        if self._next() in ("?", "+"):  # lazy or possessive
            self._at += 1
        sign, (low, comma, high) = found[0], found.groups(default="")
        if sign[0] != "{":
            least, most = {"*": (0, LONGEST_VALUE), "+": (1, LONGEST_VALUE), "?": (0, 1)}[sign]
        else:
            least = int(low or "0")
            most = int(high) if high else LONGEST_VALUE if comma else least
        return part.repeated(least, most)

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

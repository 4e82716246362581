"""Regular expressions that no value can make slow. Pure.

Python's `re` tries one way through a pattern after the other, and cannot be interrupted. So a pattern is taken only if
the number of ways through it is small for every value up to `LONGEST_VALUE`, which rules out nested repetition. A value
that is longer is never matched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_VALUE = 256
"""Characters; RFC 5280 (appendix A.1) allows 64 in a common name, RFC 1035 255 in a DNS name."""
LONGEST_PATTERN = 512
_MOST_WAYS = 100_000
_NESTED = 100
"""What a way through a repeated choice or repetition counts: it takes so much longer than one through `[a-z]+`."""
_MOST_STEPS = 10_000

_REPEAT = re.compile(r"\*|\+|\?|\{(?!\})([0-9]*)(?:(,)([0-9]*))?\}")
_GROUP = re.compile(r"\((?:\?:|\?P<[^>]*>|(?!\?))")
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
    cost = _Reader(pattern).read()
    if cost.ways > _MOST_WAYS or cost.steps > _MOST_STEPS:
        raise ValueError(
            "could take very long on some values; say how often at most ({1,20} in place of + or *), "
            "and repeat nothing that holds a repetition or a choice itself"
        )
    return compiled


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


class _Reader:
    """Reads a pattern that compiles, part by part."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def read(self) -> _Cost:
        return self._alternatives()

    def _alternatives(self) -> _Cost:
        cost = self._sequence()
        while self._next() == "|":
            self._at += 1
            cost = cost.otherwise(self._sequence())
        return cost

    def _sequence(self) -> _Cost:
        cost = _Cost(1, 1)
        while self._next() not in ("", "|", ")"):
            cost = cost.then(self._repetition(self._atom()))
        return cost

    def _atom(self) -> _Cost:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[" and (found := _CLASS.match(self._pattern, self._at)):
            self._at = found.end()
        elif character == "\\":
            if self._pattern[self._at + 1] in "0123456789":
                raise ValueError("holds a backreference; rules know none")
            self._at += 2
        else:
            self._at += 1
        return _Cost(1, 1)

    def _group(self) -> _Cost:
        found = _GROUP.match(self._pattern, self._at)
        if found is None:
            raise ValueError(
                f"holds {self._pattern[self._at : self._at + 3]}; rules know only the groups (...), (?:...) and "
                "(?P<name>...)"
            )
        self._at = found.end()
        cost = self._alternatives()
        self._at += 1  # its closing bracket, since the pattern compiles
        return cost

    def _repetition(self, cost: _Cost) -> _Cost:
        found = _REPEAT.match(self._pattern, self._at)
        if found is None:
            return cost
        self._at = found.end()
        if self._next() in ("?", "+"):  # lazy or possessive
            self._at += 1
        sign, (low, comma, high) = found[0], found.groups(default="")
        if sign[0] != "{":
            least, most = {"*": (0, LONGEST_VALUE), "+": (1, LONGEST_VALUE), "?": (0, 1)}[sign]
        else:
            least = int(low or "0")
            most = int(high) if high else LONGEST_VALUE if comma else least
        return cost.repeated(least, most)

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

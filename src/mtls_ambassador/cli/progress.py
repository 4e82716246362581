"""How far a long run is: a bar with rate and time left on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

_BETWEEN_LINES = 10.0  # seconds
_BAR = 24


def line(done: int, total: int, rate: float) -> str:
    """What is shown.

    Args:
        done: So many are through.
        total: Of so many.
        rate: So many a second, 0 where nobody knows yet.
    """
    total = max(total, done, 1)
    filled = _BAR * done // total
    bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
    left = f", {duration((total - done) / rate)} left" if rate else ""
    return f"{bar} {done}/{total}, {rate:,.0f} a second{left}"


def duration(seconds: float) -> str:
    """A time for people: `42 s`, `3:20 min`, `2:05 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


class Progress:
    """Shows how far a run is."""

    def __init__(self, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the `total` there is to do, where to write, and a clock, seconds."""
        self._total = total
        self._stream = stream
        self._clock = clock
        self._begun = clock()
        self._told = self._begun
        self._terminal = stream.isatty()
        self._shown = ""

    def show(self, done: int, made: int) -> None:
        """Say that so many are through, so many of them by this run's work, which is what the rate is of."""
        now = self._clock()
        if not self._terminal and now - self._told < _BETWEEN_LINES:
            return
        self._told = now
        self._shown = line(done, self._total, made / (now - self._begun) if now > self._begun else 0.0)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{self._shown[:width]}")
        else:
            self._stream.write(f"{self._shown}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write a line of text, above the bar."""
        self.clear()
        self._stream.write(f"{text}\n")
        if self._terminal:
            self._stream.write(self._shown)
        self._stream.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

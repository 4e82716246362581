from __future__ import annotations

import io
from itertools import count

import pytest

from mtls_ambassador.cli.progress import Progress, duration, line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rate_and_time_left() -> None:
    assert line(2500, 10000, 1250.0) == "[######..................] 2500/10000, 1,250 a second, 6 s left"
    assert line(0, 0, 0.0) == "[........................] 0/1, 0 a second"
    assert line(12, 10, 1.0).startswith("[########################] 12/12")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (200, "3:20 min"), (7500, "2:05 h"), (86400, "24:00 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_terminal_gets_one_line_that_changes() -> None:
    stream, clock = Terminal(), count()
    progress = Progress(10, stream, lambda: next(clock))
    progress.show(5, 5)
    progress.say("line 7: has no serial")
    progress.show(10, 9)
    progress.clear()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\r\x1b[K")
    assert "5/10" in text.partition("line 7: has no serial\n")[2]


def test_elsewhere_it_is_a_line_now_and_then() -> None:
    stream, clock = io.StringIO(), count(0, 4)
    progress = Progress(100, stream, lambda: next(clock))
    for done in range(10, 60, 10):
        progress.show(done, done)
    progress.clear()
    assert [text.split()[1] for text in stream.getvalue().splitlines()] == ["30/100,"]
    assert "\r" not in stream.getvalue()

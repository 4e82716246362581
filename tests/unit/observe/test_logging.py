"""`observe.logging`: one event is one line, whatever a device sent; tracebacks are for who asked."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.observe.logging import configure

Form = Literal["text", "json"]
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

NASTY = [
    "a\nINFO forged",
    "a\r\nb",
    "\x1b[2J\x1b[31mred",
    "\x00",
    "\x7f",
    "\x85",
    "a\u2028b\u2029c",
    "\u202egnp.exe",
    "\udc80",
    'say "hi" key=value',
    "it's",
    "it's \\ here",
    "\t",
    "",
]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(form: Form, message: str, *, debug: bool = False, level: str = "warning", **fields: Any) -> str:
    """What is written for one event."""
    stream = io.StringIO()
    configure(form, debug=debug, stream=stream)
    getattr(structlog.get_logger(), level)(message, **fields)
    return stream.getvalue()


def test_a_line_of_text() -> None:
    line = logged("text", "refused 192.0.2.1:5: it is old", reason="expired", serial=None, ms=3, subject="CN=a b")
    stamp, _, rest = line.partition(" ")
    assert STAMP.fullmatch(stamp)
    assert rest == "warning refused 192.0.2.1:5: it is old reason=expired ms=3 subject='CN=a b'\n"


def test_a_line_of_json() -> None:
    event = json.loads(logged("json", "refused", reason="expired", serial=None, ms=3))
    assert STAMP.fullmatch(event.pop("timestamp"))
    assert event == {"event": "refused", "level": "warning", "reason": "expired", "ms": 3}


def test_a_whole_second_is_written_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Clock:
            return cls(2026, 1, 2, 3, 4, 5, 0, tz)

    monkeypatch.setattr(dt, "datetime", Clock)
    assert logged("text", "x").startswith("2026-01-02T03:04:05.000Z warning ")


@pytest.mark.parametrize("text", NASTY)
def test_nothing_breaks_a_line_of_text(text: str) -> None:
    output = logged("text", text, detail=text, nested={"path": [text]})
    assert output.endswith("\n")
    assert output[:-1].isprintable()


@pytest.mark.parametrize("text", NASTY)
def test_nothing_breaks_a_line_of_json(text: str) -> None:
    output = logged("json", text, detail=text, nested={"path": [text]})
    assert output.endswith("\n")
    assert output[:-1].isprintable()
    event = json.loads(output)
    assert event["event"] == event["detail"] == text


@given(st.text(), st.text(), st.sampled_from(["text", "json"]))
def test_any_text_is_one_printable_line(message: str, value: str, form: Form) -> None:
    output = logged(form, message, value=value)
    assert output[:-1].isprintable()
    assert output[-1:] == "\n"


@given(st.text())
def test_a_value_cannot_pass_for_another_field(value: str) -> None:
    """Fields are told apart by spaces outside of quotes, so a value with a space or quote is always quoted."""
    rest = logged("text", "x", value=value, last=1).partition(" warning x value=")[2]
    field, space, last = rest.rpartition(" last=")
    assert (space, last) == (" last=", "1\n")
    quoted = field[:1] == field[-1:] and field[:1] in ("'", '"') and len(field) >= 2
    assert quoted or not set(field) & set(" \"'=")


def test_percent_signs_are_text() -> None:
    assert "100%s %(x)s {y}" in logged("text", "100%s %(x)s {y}")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_long_value_is_cut(form: Form) -> None:
    output = logged(form, "y" * 5000, subject="x" * 5000)
    assert len(output) < 1500
    assert "x" * 512 + "... (5000 characters)" in output


@pytest.mark.parametrize("text", ["a\u00adb", "a\u3164b", "\u115f", "\u2800"])
def test_invisible_characters_are_shown(text: str) -> None:
    output = logged("text", text, detail=text)
    assert output.isascii()
    assert output.count("\\u") == 2


def failure() -> Exception:
    try:
        raise ValueError("device said\nWARN forged \x1b[2J")
    except ValueError as error:
        return error


@pytest.mark.parametrize("form", ["text", "json"])
def test_without_debug_an_exception_is_one_field(form: Form) -> None:
    output = logged(form, "it failed", exc_info=failure())
    assert output.count("\n") == 1
    assert output[:-1].isprintable()
    assert "Traceback" not in output
    assert "ValueError: device said" in output


def test_with_debug_the_traceback_follows_indented() -> None:
    first, *more = logged("text", "it failed", debug=True, exc_info=failure()).splitlines()
    assert "error=" in first
    assert more[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in more)
    assert "    WARN forged \\u001b[2J" in more


def test_with_debug_json_is_one_line_still() -> None:
    output = logged("json", "it failed", debug=True, exc_info=failure())
    assert output.count("\n") == 1
    assert "Traceback" in json.loads(output)["traceback"]


def test_the_current_exception_is_taken() -> None:
    stream = io.StringIO()
    configure("text", debug=False, stream=stream)
    try:
        raise KeyError("x")
    except KeyError:
        structlog.get_logger().warning("it failed", exc_info=True)
    assert """error="KeyError: 'x'\"""" in stream.getvalue()


@pytest.mark.parametrize("debug", [True, False])
def test_debug_lines_are_for_who_asked(debug: bool) -> None:
    assert bool(logged("text", "detail", debug=debug, level="debug")) is debug
    assert logged("text", "news", debug=debug, level="info")


@pytest.mark.parametrize("debug", [True, False])
def test_libraries_warnings_come_out_as_our_lines_and_no_more(debug: bool) -> None:
    stream = io.StringIO()
    configure("text", debug=debug, stream=stream)
    library = logging.getLogger("some.library")
    library.debug("Authorization: Bearer secret")
    library.info("chatter")
    library.warning("odd %s\nsecond line", "thing")
    library.error("bad", exc_info=failure() if debug else None)
    lines = [line for line in stream.getvalue().splitlines() if not line.startswith("    ")]
    assert lines[0].partition(" ")[2] == "warning odd thing logger=some.library"
    assert lines[1].partition(" ")[2].startswith("error   bad logger=some.library")
    assert len(lines) == 2


def test_it_may_be_configured_again() -> None:
    assert logged("json", "x").startswith("{")
    assert STAMP.match(logged("text", "x"))
    assert len(logging.getLogger().handlers) == 1


def test_it_writes_to_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", debug=False)
    structlog.get_logger().info("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("info    hello\n")

"""Log lines: one event a line, text or JSON, on stderr; what a device sent can never break a line."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog


def configure(form: Literal["text", "json"], *, debug: bool, stream: TextIO | None = None) -> None:
    """Set up logging for this process; may be called again.

    Args:
        form: `text` for people, `json` for machines.
        debug: Log in detail and with tracebacks. It raises our own level only, never Envoy's or a library's, whose
            debug lines hold tokens.
        stream: Where to write; None: stderr.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            _stamp,
            _Traceback(shown=debug),
            _tidy,
            structlog.processors.JSONRenderer() if form == "json" else _render_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_Sink(stream or sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(logging.WARNING)


def _stamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["timestamp"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


_LONGEST = 512
"""Characters of one value on a log line."""
_BARE = re.compile(r"[!#-&(-<>-~]+")
"""Printable ASCII without space, quotes and the equals sign."""
_QUOTABLE = re.compile(r"[ -&(-\[\]-~]*")
"""Printable ASCII without the single quote and the backslash."""
_as_json = json.JSONEncoder(default=str).encode


class _Sink:
    """A stream whose end stops nothing: with the log's reader gone or its disk full, devices are still served."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Forward(logging.Handler):
    """Lets libraries' warnings and errors come out as our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage().split("\n")[0], logger=record.name, exc_info=record.exc_info
        )


class _Traceback:
    """Turns an exception into one field; its traceback only where the user asked for detail."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        info = event.pop("exc_info", None)
        error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
        if isinstance(error, BaseException):
            event["error"] = f"{type(error).__name__}: {error}"
            if self._shown:
                event["traceback"] = "".join(traceback.format_exception(error))
        return event


def _tidy(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop what is not there, and cut what is too long: strangers choose identities and subjects of kilobytes."""
    for key, value in list(event.items()):
        if value is None:
            del event[key]
        elif isinstance(value, str) and len(value) > _LONGEST and key not in ("traceback", "remedy"):
            event[key] = f"{value[:_LONGEST]}... ({len(value)} characters)"
    return event


def _render_text(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    fields = dict(event)
    time, level, message = fields.pop("timestamp"), fields.pop("level"), fields.pop("event")
    shown_traceback = fields.pop("traceback", "")
    line = f"{time} {level:<7} {_one_line(str(message))}{_pairs(fields)}"
    return "\n".join([line, *(f"    {_one_line(part)}" for part in shown_traceback.splitlines())])


def _pairs(fields: Mapping[str, Any]) -> str:
    return "".join(f" {key}={_value(value)}" for key, value in fields.items())


def _value(value: object) -> str:
    text = value if isinstance(value, str) else _as_json(value)
    if _BARE.fullmatch(text):
        return text
    return f"'{text}'" if _QUOTABLE.fullmatch(text) else json.dumps(text)


def _one_line(text: str) -> str:
    return text if _is_harmless(text) else json.dumps(text)[1:-1]


def _is_harmless(text: str) -> bool:
    # Unicode has invisible characters that count as printable.
    return text.isascii() and text.isprintable()

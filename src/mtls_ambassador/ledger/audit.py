"""The audit log: one line of JSON for each admission, refusal and change, in a file or on standard output."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from mtls_ambassador.ledger.records import Event, EventKind
from mtls_ambassador.ledger.writes import plain
from mtls_ambassador.observe.throttle import ThrottleEach

_log = structlog.get_logger()

_MOST_WAITING = 10_000
_REFUSALS, _REFUSALS_PER_SECOND = 100, 0.1
_LAST_LINES = 5.0
"""Seconds for what waits at the end."""


def audit_line(event: Event, left_out: int = 0) -> str:
    """One event as a line of JSON; what is not known of it is left out, and what is very long is cut.

    Args:
        event: What happened.
        left_out: How many refusals like it are not in the log.
    """
    certificate = event.certificate
    content: dict[str, Any] = {
        "time": event.at.isoformat(timespec="milliseconds"),
        "event": event.kind.value,
        "reason": event.reason,
        "identity": plain(event.identity) if event.identity else None,
        "certificate": {
            "serial": certificate.serial,
            "subject": plain(certificate.subject),
            "issuer": plain(certificate.issuer),
            "sha256": certificate.fingerprint,
            "anchor": certificate.anchor,
        }
        if certificate
        else None,
        "token_of": event.token_of,
        "rule": event.rule,
        "detail": plain(event.detail) or None,
        "mender_status": event.mender_status,
        "mender_id": event.mender_id,
        "address": event.address or None,
        "request_id": event.request_id or None,
        "left_out": left_out + event.left_out or None,
    }
    return json.dumps({name: value for name, value in content.items() if value is not None})


def append(path: Path, events: Iterable[Event]) -> None:
    """Add events to an audit log at once, beside whatever edge writes to it.

    Args:
        path: The file. It is made where this user's edge would make it, lest the edge cannot write it later.
        events: Not throttled.

    Raises:
        OSError: it cannot be written.
    """
    text = "".join(f"{audit_line(event)}\n" for event in events).encode()
    own = path.parent.stat().st_uid == os.geteuid()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if own else 0), 0o600)
    try:
        _write(descriptor, text)
    finally:
        os.close(descriptor)


def _write(descriptor: int, text: bytes) -> None:
    while text:
        text = text[os.write(descriptor, text) :]


class AuditLog:
    """Writes audit lines for the time of a `with`, in a thread of its own: a slow disk keeps no device waiting.

    A file that is moved away (logrotate) is begun anew. What cannot be written is counted and told, and stops nothing.
    Refusals are throttled by certificate, and those left out are counted: a hostile device must not fill the disk.

    Args:
        path: The file, made with mode 0600; None for standard output.

    Attributes:
        lost: Lines that could not be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._waiting: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._refusals = ThrottleEach(_REFUSALS, _REFUSALS_PER_SECOND)
        self._thread = threading.Thread(target=self._write_all, name="audit-log", daemon=True)
        self._descriptor: int | None = None
        self._failing = False
        self.lost = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_LAST_LINES)
        self._thread.join(_LAST_LINES)
        if self._thread.is_alive():
            _log.error("the audit log could not be finished", waiting=self._waiting.qsize(), path=str(self._path))

    def keep(self, event: Event) -> None:
        """Write an event soon. Neither waits nor fails."""
        left_out: int | None = 0
        if event.kind in (EventKind.REFUSED, EventKind.ANSWERED, EventKind.WARNED):
            left_out = self._refusals.admit(event.certificate and event.certificate.key, time.monotonic())
        if left_out is None:
            return
        try:
            self._waiting.put_nowait(audit_line(event, left_out))
        except queue.Full:
            self._lose("it is written too slowly")

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                _write(self._open(), f"{line}\n".encode())
                self._failing = False
            except OSError as error:
                self._lose(error.strerror or str(error))
        if self._descriptor is not None and self._path is not None:
            os.close(self._descriptor)

    def _open(self) -> int:
        """The file to write to: the one that has the name now."""
        if self._path is None:
            return sys.__stdout__.fileno() if sys.__stdout__ else 1
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                    return self._descriptor
            os.close(self._descriptor)
            self._descriptor = None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        return self._descriptor

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if not self._failing:
            self._failing = True
            _log.error(
                "the audit log cannot be written, and lines are lost until it can",
                path=str(self._path or "standard output"),
                reason=reason,
                remedy="Make room, or give the edge a file that it may write (audit_log).",
            )

"""An edge whose clocks a test moves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

import pytest

from mtls_ambassador import ambassador
from mtls_ambassador.admission.admit import Admission
from mtls_ambassador.admission.contests import Contests


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Let edges that start from now on bound tries, and notice contests, by this clock (monotonic seconds)."""
    monkeypatch.setattr(ambassador, "Admission", partial(Admission, clock=clock))
    monkeypatch.setattr(ambassador, "Contests", lambda _: Contests(clock))


def set_now(monkeypatch: pytest.MonkeyPatch, now: Callable[[], dt.datetime]) -> None:
    """Let admissions of edges that start from now on take this for the time of the day."""
    monkeypatch.setattr(ambassador, "Admission", partial(Admission, now=now))

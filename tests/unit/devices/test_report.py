"""The advice whether `mode: refuse` is safe."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from mtls_ambassador.devices.report import Observed, advice, mode_of

SINCE = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
SAFE = Observed(SINCE, SINCE - dt.timedelta(days=1), would_refuse=0, came=7, devices=7, mode="warn")


def test_safe() -> None:
    assert SAFE.safe
    assert advice(SAFE) == (
        "Nothing would have been refused since 2026-06-01 00:00 UTC, in which all 7 devices were admitted. It is safe "
        "to set `mode: refuse`."
    )


@pytest.mark.parametrize(
    ("modes", "mode"),
    [(["off", "warn", "refuse"], "warn"), (["off", "refuse"], "refuse"), (["off"], "off"), ([], "off")],
)
def test_several_anchors(modes: list[str], mode: str) -> None:
    assert mode_of(modes) == mode


def test_without_an_edge_it_depends() -> None:
    assert advice(replace(SAFE, mode=None)).endswith("This holds if binding was in mode warn all the time.")


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        (replace(SAFE, would_refuse=1), "1 identity would have been refused"),
        (replace(SAFE, would_refuse=20), "20 identities would have been refused"),
        (replace(SAFE, begins=SINCE + dt.timedelta(days=2)), "but the history begins 2026-06-03 00:00 UTC"),
        (replace(SAFE, begins=None), "but the history is empty"),
        (replace(SAFE, came=6), "only 6 of 7 devices"),
        (replace(SAFE, came=0, devices=0), "only 0 of 0 devices"),
        (replace(SAFE, mode="off"), "nothing is compared"),
        (replace(SAFE, mode="refuse"), "in mode refuse already"),
    ],
)
def test_not_safe(observed: Observed, words: str) -> None:
    assert not observed.safe
    assert words in advice(observed)

"""Faults are read from text, chosen by request, and used up."""

from __future__ import annotations

import pytest

from mtls_ambassador.lab.server.faults import Effect, Fault, FaultError, Faults, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("latency=2s,path=/api/management", Fault(latency=2.0, path="/api/management")),
        ("latency=250ms", Fault(latency=0.25)),
        ("latency=1.5m", Fault(latency=90.0)),
        ("latency=3", Fault(latency=3.0)),
        ("status=503,path=/api/x,count=3", Fault(status=503, path="/api/x", count=3)),
        (
            "status=429, retry_after=5, path=/p, method=post",
            Fault(status=429, retry_after=5, path="/p", method="POST"),
        ),
        ("status=500,latency=0s", Fault(status=500)),
    ],
)
def test_text(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "path=/x",
        "count=3",
        "status",
        "status=",
        "status=200",
        "status=600",
        "status=five",
        "status=503,status=500",
        "status=503,colour=red",
        "status=503,path=api",
        "status=503,count=0",
        "status=503,count=-1",
        "latency=2h",
        "latency=-1s",
        "latency=1s,retry_after=2",
    ],
)
def test_text_that_is_wrong_comes_with_a_remedy(text: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(text)
    assert repr(text) in caught.value.what
    assert "status=503" in caught.value.remedy


def test_a_rule_applies_to_its_method_and_paths() -> None:
    faults = Faults((Fault(status=503, path="/api/m", method="POST"),))
    assert faults.apply("POST", "/api/management")[1] == Effect(status=503)
    assert faults.apply("GET", "/api/management")[1] == Effect()
    assert faults.apply("POST", "/api/devices")[1] == Effect()


def test_a_rule_is_used_up() -> None:
    faults = Faults((Fault(status=503, count=2),))
    seen = []
    for _ in range(3):
        faults, effect = faults.apply("GET", "/")
        seen.append(effect.status)
    assert seen == [503, 503, None]
    assert faults.rules == (Fault(status=503, count=0),)


def test_latencies_add_up_and_the_first_status_answers() -> None:
    rules = (Fault(latency=1.0), Fault(status=429, retry_after=7, count=1), Fault(status=503, latency=2.0, count=1))
    faults, effect = Faults(rules).apply("GET", "/")
    assert effect == Effect(latency=1.0, status=429, retry_after=7)
    _, effect = faults.apply("GET", "/")
    assert effect == Effect(latency=3.0, status=503, retry_after=None)


@pytest.mark.parametrize(
    ("status", "text"), [(429, "too many requests"), (503, "service unavailable"), (599, "injected fault"), (None, "")]
)
def test_error_text(status: int | None, text: str) -> None:
    assert Effect(status=status).text == text

"""What is entered reaches everybody who remembers, whole."""

from __future__ import annotations

import datetime as dt

import pytest

from mtls_ambassador.admission.journal import Attempt, Journal
from mtls_ambassador.ledger.records import Certificate, Claim, Event, EventKind

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
CERTIFICATE = Certificate("aa" * 32, "ab" * 32, "CN=dev-1", "CN=My CA", "01", "default", NOW, NOW)


def test_everybody_gets_everything() -> None:
    first, second = list[Event](), list[Event]()
    journal = Journal([first.append, second.append], lambda: NOW)
    attempt = Attempt("r-1", "192.0.2.1:4711", Claim('{"mac":"a"}', CERTIFICATE, "cd" * 32))
    journal.enter(EventKind.ROTATED, attempt, rule="rotation: any", detail="d", mender_id="m", mender_status=200)
    assert first == second
    assert first == [
        Event(
            NOW,
            EventKind.ROTATED,
            "r-1",
            "192.0.2.1:4711",
            '{"mac":"a"}',
            CERTIFICATE,
            "cd" * 32,
            None,
            "d",
            "m",
            200,
            "rotation: any",
        )
    ]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::/64"),
        ("[2001:db8::2]:4712", "2001:db8::/64"),
        ("?", "?"),
    ],
)
def test_the_host_is_whom_the_address_stands_for(address: str, host: str) -> None:
    assert Attempt("r-1", address, Claim("{}", CERTIFICATE, "cd" * 32)).host == host

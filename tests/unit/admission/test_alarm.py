"""`admission.alarm`: what the ledger and the audit log get to know of a refusal that Envoy alone made."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import quote

from mtls_ambassador.admission.alarm import Alarm, alarm_event
from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.refusals import RefusalReason
from tests.unit.admission.test_anchor import ONE, TWO, anchors

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
THIEF = TWO.device("thief")
VICTIM = "ab" * 32


def alarm(**other: Any) -> Alarm:
    fields: dict[str, Any] = {
        "reason": RefusalReason.TOKEN_OF_ANOTHER_CERTIFICATE,
        "certificate": quote(THIEF.pem.decode(), safe=""),
        "sha256": THIEF.fingerprint,
        "token_of": VICTIM,
        "address": "192.0.2.7:1",
        "request_id": "id-1",
        "left_out": 3,
    }
    return Alarm(**fields | other)


def test_everything_that_envoy_tells_is_there() -> None:
    event = alarm_event(alarm(), anchors(one=[ONE.certificate], two=[TWO.certificate]), NOW)
    assert (event.at, event.kind, event.reason) == (NOW, EventKind.REFUSED, "token_of_another_certificate")
    assert (event.address, event.request_id, event.left_out, event.token_of) == ("192.0.2.7:1", "id-1", 3, VICTIM)
    assert event.certificate is not None
    assert (event.certificate.fingerprint, event.certificate.anchor) == (THIEF.fingerprint, "two")
    assert event.certificate.subject == "CN=thief"
    assert VICTIM in event.detail
    assert event.identity is None, "whose the token is, the ledger knows"


def test_of_a_forged_token_nothing_is_believed() -> None:
    forged = alarm(reason=RefusalReason.TOKEN_OF_UNKNOWN_KEY, token_of=None)
    event = alarm_event(forged, anchors(one=[TWO.certificate]), NOW)
    assert (event.token_of, event.detail) == (None, "")


def test_an_anchor_that_only_intermediates_would_tell_is_left_open() -> None:
    below = TWO.intermediate("Plant 2").device("thief")
    shown = alarm(certificate=quote(below.pem.decode(), safe=""))
    event = alarm_event(shown, anchors(two=[TWO.certificate], other=[]), NOW)
    assert event.certificate is not None
    assert event.certificate.anchor == ""


def test_a_certificate_that_cannot_be_read_is_named_by_its_fingerprint() -> None:
    event = alarm_event(alarm(certificate="nonsense"), anchors(one=[ONE.certificate]), NOW)
    assert event.certificate is None
    assert THIEF.fingerprint in event.detail
    assert event.token_of == VICTIM

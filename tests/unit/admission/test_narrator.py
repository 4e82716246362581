"""`admission.narrator`: one line for each auth request, and no certificate can flood the log or hide in a flood."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from mtls_ambassador.admission.admit import Verdict
from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.identity import parse_identity
from mtls_ambassador.admission.narrator import Flight, Narrator
from mtls_ambassador.admission.request import AuthRequest
from mtls_ambassador.refusals import RefusalReason
from tests.unit.mender.scripted_egress import Clock, answer

REQUEST = AuthRequest(parse_identity('{"mac":"a"}'), b"key", "pem", b"body")
ADMITTED = Verdict(answer(200, b"token"))
KNOWN = Verdict(answer(200, b"token"), known=True)
BAD = Refused(RefusalReason.BAD_REQUEST_SIGNATURE, "it is not base64")
BURST = 200


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def narrator(clock: Clock) -> Narrator:
    return Narrator(clock)


def flight(clock: Clock, name: str = "dev-1", request: AuthRequest | None = REQUEST) -> Flight:
    certificate = PeerCertificate(
        name,
        b"key",
        f"CN={name}",
        "CN=My CA",
        "0a",
        is_ca=False,
        not_before=dt.datetime.min.replace(tzinfo=dt.UTC),
        not_after=dt.datetime.max.replace(tzinfo=dt.UTC),
    )
    return Flight("r-1", "192.0.2.1:4711", clock() - 0.25, certificate, request)


def test_an_admission(narrator: Narrator, clock: Clock) -> None:
    with capture_logs() as logged:
        narrator.answered(flight(clock), ADMITTED)
    (event,) = logged
    assert (event["event"], event["log_level"]) == ("admitted 192.0.2.1:4711", "info")
    assert (event["identity"], event["serial"], event["subject"]) == ('{"mac":"a"}', "0a", "CN=dev-1")
    assert (event["status"], event["ms"], event["request_id"], event["left_out"]) == (200, 250, "r-1", None)


def test_a_refusal_before_anything_is_known(narrator: Narrator) -> None:
    with capture_logs() as logged:
        narrator.refused(Flight("r-1", "?", 0.0), Refused(RefusalReason.CERTIFICATE_UNREADABLE))
    (event,) = logged
    assert event["event"].startswith("refused ?: ")
    assert (event["log_level"], event["reason"], event["status"]) == ("warning", "certificate_unreadable", 403)
    assert (event["detail"], event["identity"], event["serial"], event["subject"]) == (None, None, None, None)
    assert event["remedy"]


def test_menders_refusal_and_menders_trouble(narrator: Narrator, clock: Clock) -> None:
    with capture_logs() as logged:
        narrator.answered(flight(clock), Verdict(answer(401, b""), RefusalReason.DEVICE_LIMIT, "why"))
        narrator.answered(flight(clock), Verdict(answer(500, b"")))
    assert [event["log_level"] for event in logged] == ["warning", "warning"]
    assert (logged[0]["reason"], logged[0]["detail"], logged[0]["status"]) == ("device_limit", "why", 401)
    assert logged[1]["event"] == "Mender answered 500 to the auth request of 192.0.2.1:4711"


def test_a_flood_is_cut_and_counted(narrator: Narrator, clock: Clock) -> None:
    with capture_logs() as logged:
        for _ in range(500):
            narrator.refused(flight(clock), BAD)
            narrator.answered(flight(clock), KNOWN)
            narrator.answered(flight(clock), Verdict(answer(500, b"")))
        assert len(logged) == BURST
        clock.now += 2
        narrator.refused(flight(clock), BAD)
    assert len(logged) == BURST + 1
    assert logged[-1]["left_out"] == 1500 - BURST


def test_what_was_left_out_is_told_once_it_is_quiet(narrator: Narrator, clock: Clock) -> None:
    with capture_logs() as logged:
        narrator.summarise()
        for name in ("dev-1", "dev-2"):
            for _ in range(BURST + 3):
                narrator.refused(flight(clock, name), BAD)
        narrator.summarise()
        narrator.summarise()
    assert len(logged) == 2 * BURST + 1
    assert (logged[-1]["event"], logged[-1]["left_out"]) == ("6 more auth requests were left out of this log", 6)


def test_a_noisy_certificate_hides_no_other(narrator: Narrator, clock: Clock) -> None:
    with capture_logs() as logged:
        for _ in range(BURST * 2):
            narrator.refused(flight(clock), BAD)
            narrator.refused(Flight("r-1", "?", 0.0), BAD)
        narrator.refused(flight(clock, "dev-2"), BAD)
    assert logged[-1]["subject"] == "CN=dev-2"


def test_no_flood_hides_a_new_admission(narrator: Narrator, clock: Clock) -> None:
    with capture_logs() as logged:
        for _ in range(BURST * 2):
            narrator.refused(flight(clock), BAD)
        narrator.answered(flight(clock), ADMITTED)
        narrator.answered(flight(clock), KNOWN)
    assert len(logged) == BURST + 1
    assert logged[-1]["event"] == "admitted 192.0.2.1:4711"

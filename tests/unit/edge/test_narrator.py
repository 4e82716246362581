"""`edge.narrator`: each of Envoy's lines is told once, by whom it concerns, and a flood is cut but counted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest
import structlog
from structlog.testing import capture_logs

from mtls_ambassador.edge.log_lines import AlarmLine
from mtls_ambassador.edge.narrator import Narrator


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def handshake(reason: str = "depth_0:_certificate_has_expired", **fields: object) -> bytes:
    usual = {"log": "handshake", "peer": "192.0.2.7:1", "serial": "0a", "subject": "CN=dev-1", "reason": reason}
    return json.dumps({**usual, "details": None, **fields}).encode()


def request(**fields: object) -> bytes:
    usual = {
        "log": "request",
        "peer": "192.0.2.7:1",
        "serial": "0a",
        "subject": "CN=dev-1",
        "method": "GET",
        "path": "/x",
        "code": 404,
        "details": "direct_response",
        "request_id": "id-1",
        "received": 1,
        "sent": 2,
        "ms": 3,
    }
    return json.dumps({**usual, **fields}).encode()


COPIED = {"log": "alarm", "code": 401, "details": "rbac_access_denied_matched_policy[none]", "sha256": "aa"}
REFUSED = {"log": "alarm", "code": 403, "details": "rbac_access_denied_matched_policy[server_certificate]"}


def told(*lines: bytes, access_log: Literal["all", "errors", "off"] = "errors") -> list[Any]:
    """What is logged for these lines."""
    narrator = Narrator(access_log, clock=Clock())
    with capture_logs() as logged:
        for line in lines:
            narrator.tell(line)
    return list(logged)


async def lines(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


def test_a_failed_handshake_is_a_warning_with_its_reason() -> None:
    (event,) = told(handshake())
    assert event["log_level"] == "warning"
    assert event["event"] == "TLS handshake error from 192.0.2.7:1: the client's certificate has expired"
    assert (event["reason"], event["serial"], event["subject"]) == ("expired", "0a", "CN=dev-1")
    assert event["detail"] is None


def test_an_unknown_failure_is_told_in_boringssls_words() -> None:
    (event,) = told(handshake("SOMETHING_NEW"))
    assert (event["reason"], event["detail"]) == ("handshake_failed", "SOMETHING_NEW")


def test_a_request_is_told_with_numbers() -> None:
    (event,) = told(request(query="secret"))
    assert event["event"] == "GET /x 404 from 192.0.2.7:1"
    assert event["log_level"] == "info"
    assert event["reason"] == "path_not_allowed"
    assert (event["received"], event["sent"], event["ms"], event["request_id"]) == (1, 2, 3, "id-1")
    assert "secret" not in str(event)


def test_an_upstream_failure_is_told_in_envoys_words() -> None:
    (event,) = told(request(code=503, details="upstream_reset", upstream="mender", upstream_failure="TLS_error:x"))
    assert (event["reason"], event["details"], event["upstream_failure"]) == (None, "upstream_reset", "TLS_error:x")


def test_what_the_admission_service_has_told_is_not_told_again() -> None:
    answered = request(code=401, details="via_upstream", upstream="admission")
    assert told(answered) == []
    (event,) = told(answered, access_log="all")
    assert event["details"] is None
    # It did not answer: then only Envoy can tell.
    assert len(told(request(code=503, details="upstream_reset", upstream="admission"))) == 1


@pytest.mark.parametrize("access_log", ["all", "errors", "off"])
def test_a_token_of_another_certificate_is_always_a_warning(access_log: Literal["all", "errors", "off"]) -> None:
    (event,) = told(request(**COPIED, path="/" + "x" * 5000), access_log=access_log)
    assert event["log_level"] == "warning"
    assert event["reason"] == "token_of_another_certificate"
    assert event["subject"] == "CN=dev-1"
    assert len(event["path"]) < 300


def test_a_token_that_is_not_valid_is_no_alarm() -> None:
    (event,) = told(request(code=401, details="jwt_authn_access_denied{Jwt_is_missing}"))
    assert (event["log_level"], event["reason"]) == ("info", "token_refused")


@pytest.mark.parametrize("access_log", ["all", "errors", "off"])
def test_a_refused_certificate_is_always_a_warning(access_log: Literal["all", "errors", "off"]) -> None:
    (event,) = told(request(**REFUSED), access_log=access_log)
    assert event["log_level"] == "warning"
    assert event["event"] == "refused 192.0.2.7:1: the client's certificate is a server certificate of this edge"
    assert (event["reason"], event["path"], event["serial"]) == ("server_certificate", "/x", "0a")


@pytest.mark.parametrize("access_log", ["all", "errors"])
def test_an_alarm_is_not_told_again_as_a_request(access_log: Literal["all", "errors", "off"]) -> None:
    assert told(request(**COPIED | {"log": "request"}), access_log=access_log) == []


def test_alarms_are_handed_on_throttled_by_certificate_and_reason() -> None:
    clock = Clock()
    taken: list[tuple[str, str, int]] = []

    def take(line: AlarmLine, left_out: int) -> None:
        taken.append((line.sha256, line.reason.label, left_out))

    narrator = Narrator("off", take, clock)
    with capture_logs():
        for _ in range(1000):
            narrator.tell(request(**COPIED))
        assert len(taken) == 10
        narrator.tell(request(**COPIED | {"sha256": "bb"}))
        narrator.tell(request(**REFUSED | {"sha256": "aa"}))
        assert taken[10:] == [("bb", "token_of_another_certificate", 0), ("aa", "server_certificate", 0)]
        clock.now += 61
        narrator.tell(request(**COPIED))
        narrator.tell(request(**COPIED))
    assert taken[12:] == [("aa", "token_of_another_certificate", 990)]


def test_who_cannot_take_an_alarm_does_not_stop_the_reading() -> None:
    def fail(line: AlarmLine, left_out: int) -> None:
        raise RuntimeError("odd")

    narrator = Narrator("errors", fail, Clock())
    with capture_logs() as logged:
        narrator.tell(request(**COPIED))
    assert [event["log_level"] for event in logged] == ["error", "warning"]


@pytest.mark.parametrize("text", [b"", b"x" * 1000 + b"\xff", b"{}", handshake(handshake_ms=3)])
def test_what_is_no_news_is_not_told(text: bytes) -> None:
    assert told(text) == []


def test_a_flood_of_failed_handshakes_is_cut_and_counted() -> None:
    clock = Clock()
    narrator = Narrator("errors", clock=clock)
    with capture_logs() as logged:
        for _ in range(1000):
            narrator.tell(handshake())
        assert len(logged) == 50
        clock.now += 1
        narrator.tell(handshake())
    assert len(logged) == 52
    assert logged[50]["left_out"] == 950
    assert "950 more" in logged[50]["event"]


def test_a_flood_of_refusals_is_cut_and_counted() -> None:
    clock = Clock()
    narrator = Narrator("errors", clock=clock)
    with capture_logs() as logged:
        for _ in range(100):
            narrator.tell(request(**REFUSED))
        clock.now += 1
        narrator.tell(request(**REFUSED))
    assert len(logged) == 51
    assert logged[-1]["left_out"] == 50
    assert logged[0]["left_out"] is None


def test_one_flood_does_not_hide_the_other() -> None:
    logged = told(*[handshake()] * 100, request(**REFUSED))
    assert logged[-1]["reason"] == "server_certificate"


def test_a_scanner_hides_no_device() -> None:
    scanner = [handshake("HTTP_REQUEST", peer=f"198.51.100.9:{port}") for port in range(1000, 1200)]
    logged = told(*scanner, handshake(), handshake("ALERT_UNKNOWN_CA", peer="198.51.100.9:1"))
    assert [event["reason"] for event in logged[-2:]] == ["expired", "server_not_trusted"]
    assert len(logged) == 52


@pytest.mark.parametrize(
    ("address", "most"), [("[2001:db8:0:1::{:x}]:1", 50), ("10.{0}.{1}.{2}:1", 500), ("[2001:db8:0:{:x}::1]:1", 500)]
)
def test_a_scanner_with_many_addresses_is_cut_and_counted(address: str, most: int) -> None:
    clock = Clock()
    narrator = Narrator("errors", clock=clock)
    with capture_logs() as logged:
        for number in range(20_000):
            peer = (
                address.format(number)
                if "x" in address
                else address.format(number >> 16, number >> 8 & 255, number & 255)
            )
            narrator.tell(handshake("HTTP_REQUEST", peer=peer))
        assert len(logged) == most
        narrator.tell(handshake())
        assert logged[-1]["reason"] == "expired"
        clock.now += 1
        narrator.tell(handshake("HTTP_REQUEST"))
        narrator.summarise()
    assert sum(event.get("left_out") or 0 for event in logged) == 20_000 - most


def test_a_noisy_device_hides_no_other() -> None:
    logged = told(*[request()] * 200, request(serial="0b"))
    assert len(logged) == 51
    assert logged[-1]["serial"] == "0b"


def test_who_asks_for_all_gets_all() -> None:
    assert len(told(*[request()] * 200, access_log="all")) == 200


def test_a_long_path_is_cut() -> None:
    (event,) = told(request(path="/" + "x" * 5000))
    assert len(event["event"]) < 400


async def test_what_was_held_back_is_told_at_the_end() -> None:
    narrator = Narrator("errors", clock=Clock())
    with capture_logs() as logged:
        await narrator.follow_output(lines(*[handshake()] * 60, *[request(**REFUSED)] * 70))
    assert [event["left_out"] for event in logged[100:]] == [10, 20]
    assert "10 more TLS handshake errors" in logged[100]["event"]
    assert "20 more requests" in logged[101]["event"]


async def test_envoys_own_log_is_told_and_kept() -> None:
    keep: list[str] = []
    with capture_logs() as logged:
        await Narrator("errors").follow_errors(
            lines(b"warning\tconfig\told option", b"error\tmain\tbad", b"critical\tmain\tworse", b"odd \xff", b"a\tb"),
            keep,
        )
    assert [(event["log_level"], event["event"], event.get("component")) for event in logged] == [
        ("warning", "envoy: old option", "config"),
        ("error", "envoy: bad", "main"),
        ("error", "envoy: worse", "main"),
        ("debug", "envoy: odd \ufffd", None),
        ("debug", "envoy: a\tb", None),
    ]
    assert keep[0] == "warning\tconfig\told option"


async def test_envoys_last_words_are_fifty() -> None:
    keep: list[str] = []
    with capture_logs():
        await Narrator("errors").follow_errors(lines(*[f"error\tx\t{n}".encode() for n in range(120)]), keep)
    assert [text.rpartition("\t")[2] for text in keep] == [str(n) for n in range(70, 120)]

"""`edge.access_log`: what Envoy is told to log, and what never: queries, headers, bodies."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from mtls_ambassador.edge.access_log import ALARM, HANDSHAKE, REQUEST, alarms, handshake_failures, requests
from tests.unit.edge.plans import everything_in

Which = Literal["all", "errors", "off"]


def expression(logger: dict[str, Any]) -> str:
    found: str = logger["filter"]["extension_filter"]["typed_config"]["expression"]
    return found


def fields(logger: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = logger["typed_config"]["log_format"]["json_format"]
    return found


def test_only_failed_connections_are_logged() -> None:
    logger = handshake_failures()
    assert fields(logger)["log"] == HANDSHAKE
    assert "transport_failure_reason" in expression(logger)
    assert "termination_details" in expression(logger)


def test_all_requests_are_logged() -> None:
    (logger,) = requests("all")
    assert fields(logger)["log"] == REQUEST
    assert "filter" not in logger


def test_errors_are_logged_and_requests_without_an_answer() -> None:
    (logger,) = requests("errors")
    comparisons = [item["status_code_filter"]["comparison"] for item in logger["filter"]["or_filter"]["filters"]]
    assert [(item["op"], item["value"]["default_value"]) for item in comparisons] == [("GE", 400), ("EQ", 0)]


def test_who_asks_for_none_gets_none() -> None:
    assert requests("off") == []


def test_alarms_are_logged_with_the_certificate_and_cost_other_requests_little() -> None:
    logger = alarms("a == b", "%X%")
    assert fields(logger)["log"] == ALARM
    assert fields(logger)["certificate"] == "%DOWNSTREAM_PEER_CERT%"
    assert fields(logger)["token_of"] == "%X%"
    first, second, last = logger["filter"]["and_filter"]["filters"]
    found = [item["status_code_filter"]["comparison"] for item in (first, second)]
    assert [(item["op"], item["value"]["default_value"]) for item in found] == [("GE", 401), ("LE", 403)]
    assert expression({"filter": last}) == "a == b"


@pytest.mark.parametrize("which", ["all", "errors", "off"])
def test_no_header_but_the_request_id_and_no_query_is_logged(which: Which) -> None:
    loggers = [handshake_failures(), *requests(which), alarms("true", "%X%")]
    texts = [text for logger in loggers for text in fields(logger).values()]
    headers = set(re.findall(r"%REQ\(([^)]*)\)", " ".join(texts)))
    assert headers - {":METHOD"} == {"X-REQUEST-ID"}
    assert {text for text in texts if "PATH" in text} == {"%PATH(NQ:ORIG_OR_PATH)%"}
    assert not [text for text in texts if "RESP(" in text]


def test_lines_go_to_the_stream_that_is_read() -> None:
    for logger in [handshake_failures(), *requests("all"), alarms("true", "%X%")]:
        assert logger["name"] == "envoy.access_loggers.stdout"
        assert "/dev/stdout" not in list(everything_in(logger))

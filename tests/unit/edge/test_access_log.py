"""`edge.access_log`: what Envoy is told to log, and what never: queries, headers, bodies."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from mtls_ambassador.edge.access_log import HANDSHAKE, REQUEST, handshake_failures, requests
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


def test_refused_certificates_are_logged_in_any_case() -> None:
    (logger,) = requests("off")
    assert expression(logger) == "response.code_details.startsWith('rbac_access_denied')"


@pytest.mark.parametrize("which", ["all", "errors", "off"])
def test_no_header_but_the_request_id_and_no_query_is_logged(which: Which) -> None:
    texts = [text for logger in [handshake_failures(), *requests(which)] for text in fields(logger).values()]
    headers = set(re.findall(r"%REQ\(([^)]*)\)", " ".join(texts)))
    assert headers == {":METHOD", "X-REQUEST-ID"}
    paths = [text for text in texts if "PATH" in text]
    assert paths == ["%PATH(NQ:ORIG_OR_PATH)%"]
    assert not [text for text in texts if "RESP(" in text or "PEER_CERT%" in text]


def test_lines_go_to_the_stream_that_is_read() -> None:
    for logger in [handshake_failures(), *requests("all")]:
        assert logger["name"] == "envoy.access_loggers.stdout"
        assert "/dev/stdout" not in list(everything_in(logger))

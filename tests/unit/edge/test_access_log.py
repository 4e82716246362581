"""`edge.access_log`: what Envoy is told to log, and what never: queries, headers, bodies."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from mtls_ambassador.edge.access_log import HANDSHAKE, REQUEST, handshake_failures, requests
from tests.unit.edge.plans import everything_in

Which = Literal["all", "errors", "off"]


def expression(logger: dict[str, Any]) -> str | None:
    if "filter" not in logger:
        return None
    found: str = logger["filter"]["extension_filter"]["typed_config"]["expression"]
    return found


def fields(logger: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = logger["typed_config"]["log_format"]["json_format"]
    return found


def test_only_failed_connections_are_logged() -> None:
    logger = handshake_failures()
    assert fields(logger)["log"] == HANDSHAKE
    assert "transport_failure_reason" in str(expression(logger))
    assert "termination_details" in str(expression(logger))


@pytest.mark.parametrize(
    ("which", "wanted"),
    [
        ("all", None),
        ("errors", "response.code >= 400 || response.code == 0"),
        ("off", "response.code_details.startsWith('rbac_access_denied')"),
    ],
)
def test_which_requests_are_logged(which: Which, wanted: str | None) -> None:
    (logger,) = requests(which)
    assert fields(logger)["log"] == REQUEST
    assert expression(logger) == wanted


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

"""What Envoy logs about connections and requests, as configuration. Reading it back is `log_lines`. Pure."""

from __future__ import annotations

from typing import Any, Literal

Json = dict[str, Any]

HANDSHAKE = "handshake"
REQUEST = "request"
ALARM = "alarm"

_LOGGERS = "type.googleapis.com/envoy.extensions.access_loggers"
_PEER = {
    "peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "subject": "%DOWNSTREAM_PEER_SUBJECT%",
}


def handshake_failures() -> Json:
    """One line for each connection that TLS ended; successes are not logged.

    `handshake_ms` tells those apart whose handshake had succeeded, such as one that a device resets later.
    """
    return _to_stdout(
        {
            "log": HANDSHAKE,
            **_PEER,
            "reason": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
            "details": "%CONNECTION_TERMINATION_DETAILS%",
            "handshake_ms": "%DOWNSTREAM_HANDSHAKE_DURATION%",
        },
        expression_filter(
            '(has(connection.transport_failure_reason) && connection.transport_failure_reason != "") || '
            '(has(connection.termination_details) && connection.termination_details != "")'
        ),
    )


def requests(which: Literal["all", "errors", "off"]) -> list[Json]:
    """One line for each request that is wanted.

    The path is logged without its query; no header but the request id is.
    """
    if which == "off":
        return []
    # Envoy's own filters: CEL would cost every request, logged or not, some of its processor time.
    errors: Json = {"or_filter": {"filters": [status_filter("GE", 400), status_filter("EQ", 0)]}}
    return [
        _to_stdout(
            {
                "log": REQUEST,
                **_PEER,
                "method": "%REQ(:METHOD)%",
                "path": "%PATH(NQ:ORIG_OR_PATH)%",
                "code": "%RESPONSE_CODE%",
                "details": "%RESPONSE_CODE_DETAILS%",
                "upstream": "%UPSTREAM_CLUSTER%",
                "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
                "received": "%BYTES_RECEIVED%",
                "sent": "%BYTES_SENT%",
                "ms": "%DURATION%",
                "request_id": "%REQ(X-REQUEST-ID)%",
            },
            None if which == "all" else errors,
        )
    ]


def alarms(condition: str, token_of: str) -> Json:
    """One line for each refusal that means theft or forgery, whatever else is logged, with the whole certificate.

    Args:
        condition: Which refusals those are, in CEL.
        token_of: Operator for the certificate that the token was handed out to.
    """
    return _to_stdout(
        {
            "log": ALARM,
            **_PEER,
            "sha256": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
            "certificate": "%DOWNSTREAM_PEER_CERT%",
            "token_of": token_of,
            "path": "%PATH(NQ:ORIG_OR_PATH)%",
            "code": "%RESPONSE_CODE%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "request_id": "%REQ(X-REQUEST-ID)%",
        },
        # In this order, since the first that does not hold ends it, and nearly every request is answered below 401.
        {"and_filter": {"filters": [status_filter("GE", 401), status_filter("LE", 403), expression_filter(condition)]}},
    )


def _to_stdout(fields: Json, condition: Json | None) -> Json:
    # The stdout logger, not the file /dev/stdout, which fails when stdout belongs to another user.
    logger: Json = {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": f"{_LOGGERS}.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": fields},
        },
    }
    if condition is not None:
        logger["filter"] = condition
    return logger


def expression_filter(condition: str) -> Json:
    """A filter for access logs and local replies, in CEL over Envoy's attributes."""
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {"@type": f"{_LOGGERS}.filters.cel.v3.ExpressionFilter", "expression": condition},
        }
    }


def status_filter(operator: Literal["EQ", "GE", "LE"], status: int) -> Json:
    """A filter for access logs and local replies by the answer's status; 0 is that of a request without answer."""
    return {
        "status_code_filter": {
            "comparison": {
                "op": operator,
                "value": {"default_value": status, "runtime_key": f"mtls.status_{operator.lower()}_{status}"},
            }
        }
    }


def error_body(text: str) -> Json:
    """A local reply's body as Mender's own errors look: `error` and `request_id`, and no detail of ours."""
    return {
        "json_format": {"error": text, "request_id": "%REQ(X-REQUEST-ID)%"},
        "content_type": "application/json; charset=utf-8",
    }

"""`edge.log_lines`: Envoy's texts, as they were seen, to our reasons."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.edge import log_lines
from mtls_ambassador.edge.log_lines import AlarmLine, HandshakeLine, RequestLine, classify, parse
from mtls_ambassador.refusal import Stage
from mtls_ambassador.refusals import RefusalReason
from tests.certificates import ODD_CLIENT_CERTIFICATES

VERIFY = (
    "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:"
    "_X509_verify_cert:_certificate_verification_error_at_depth_{}:TLS_error_end"
)
TLS = "TLS_error:|268435703:SSL_routines:OPENSSL_internal:{}:TLS_error_end"

SAMPLES: tuple[tuple[str, RefusalReason], ...] = (
    (
        TLS.format("PEER_DID_NOT_RETURN_A_CERTIFICATE:peer_did_not_provide_required_client_certificate"),
        RefusalReason.NO_CERTIFICATE,
    ),
    (VERIFY.format("0:_certificate_has_expired"), RefusalReason.EXPIRED),
    (VERIFY.format("1:_certificate_has_expired"), RefusalReason.ISSUER_EXPIRED),
    (VERIFY.format("2:_certificate_has_expired"), RefusalReason.ISSUER_EXPIRED),
    (VERIFY.format("0:_certificate_is_not_yet_valid"), RefusalReason.NOT_YET_VALID),
    (VERIFY.format("1:_certificate_is_not_yet_valid"), RefusalReason.ISSUER_NOT_YET_VALID),
    (VERIFY.format("0:_unable_to_get_local_issuer_certificate"), RefusalReason.UNKNOWN_CA),
    (VERIFY.format("1:_unable_to_get_local_issuer_certificate"), RefusalReason.UNKNOWN_CA),
    (VERIFY.format("1:_self_signed_certificate_in_certificate_chain"), RefusalReason.UNKNOWN_CA),
    (VERIFY.format("0:_self_signed_certificate"), RefusalReason.SELF_SIGNED),
    (
        (
            "TLS_error:|184549512:X.509_certificate_routines:OPENSSL_internal:BAD_SIGNATURE|268435581:SSL_routines:"
            "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:"
            "_certificate_verification_error_at_depth_0:_certificate_signature_failure:TLS_error_end"
        ),
        RefusalReason.BAD_SIGNATURE,
    ),
    (VERIFY.format("0:_unsupported_certificate_purpose"), RefusalReason.WRONG_PURPOSE),
    (TLS.format("KEY_USAGE_BIT_INCORRECT"), RefusalReason.WRONG_PURPOSE),
    (
        VERIFY.format("0:_certificate_revocation_check_against_provided_CRLs_failed:_certificate_revoked"),
        RefusalReason.REVOKED,
    ),
    (VERIFY.format("0:_unhandled_critical_extension"), RefusalReason.CRITICAL_EXTENSION),
    (VERIFY.format("0:_unable_to_decode_issuer_public_key"), RefusalReason.UNSUPPORTED_CERTIFICATE_KEY),
    (
        "TLS_error:|100663424:public_key_routines:OPENSSL_internal:UNSUPPORTED_ALGORITHM:TLS_error_end",
        RefusalReason.UNSUPPORTED_CERTIFICATE_KEY,
    ),
    (TLS.format("TLSV1_ALERT_UNKNOWN_CA"), RefusalReason.SERVER_NOT_TRUSTED),
    (TLS.format("SSLV3_ALERT_BAD_CERTIFICATE"), RefusalReason.SERVER_NOT_TRUSTED),
    (TLS.format("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), RefusalReason.SERVER_NOT_TRUSTED),
    (TLS.format("SSLV3_ALERT_CERTIFICATE_EXPIRED"), RefusalReason.SERVER_NOT_TRUSTED),
    (
        (
            "TLS_error:|30:Cipher_functions:OPENSSL_internal:BAD_PACKET_LENGTH|268435648:SSL_routines:OPENSSL_internal:"
            "DECRYPTION_FAILED_OR_BAD_RECORD_MAC:TLS_error_end"
        ),
        RefusalReason.SERVER_NOT_TRUSTED,
    ),
    (TLS.format("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), RefusalReason.SERVER_NOT_TRUSTED),
    (TLS.format("UNSUPPORTED_PROTOCOL"), RefusalReason.PROTOCOL_VERSION),
    (TLS.format("TLSV1_ALERT_PROTOCOL_VERSION"), RefusalReason.PROTOCOL_VERSION),
    (TLS.format("NO_SHARED_CIPHER"), RefusalReason.NO_COMMON_CIPHER),
    (TLS.format("NO_SHARED_GROUP"), RefusalReason.NO_COMMON_CIPHER),
    (TLS.format("WRONG_CURVE"), RefusalReason.NO_COMMON_CIPHER),
    (TLS.format("HTTP_REQUEST"), RefusalReason.PLAIN_HTTP),
    (TLS.format("HTTPS_PROXY_REQUEST"), RefusalReason.PLAIN_HTTP),
    (TLS.format("WRONG_VERSION_NUMBER"), RefusalReason.NOT_TLS),
    ("TLS_error:_Secret_is_not_supplied_by_SDS", RefusalReason.NOT_READY),
    ("TLS_error:_Connection_reset_by_peer", RefusalReason.CLIENT_LEFT),
    ("TLS_error:_Broken_pipe", RefusalReason.CLIENT_LEFT),
    (VERIFY.format("1:_invalid_CA_certificate"), RefusalReason.UNKNOWN_CA),
    (TLS.format("SOMETHING_NEW"), RefusalReason.HANDSHAKE_FAILED),
    ("", RefusalReason.HANDSHAKE_FAILED),
)


@pytest.mark.parametrize(("text", "reason"), SAMPLES)
def test_envoys_texts_have_reasons(text: str, reason: RefusalReason) -> None:
    assert classify(text, "") is reason


def test_every_row_of_the_table_has_a_sample_that_it_decides() -> None:
    for substring, reason in log_lines._BY_SUBSTRING:
        deciding = [
            text for text, _ in SAMPLES if next((s for s, _ in log_lines._BY_SUBSTRING if s in text), "") == substring
        ]
        assert deciding, f"{substring} ({reason.label}) decides nothing"


def test_every_reason_of_the_handshake_is_reached() -> None:
    reached = {reason for _, reason in SAMPLES} | {RefusalReason.HANDSHAKE_TIMEOUT}
    assert reached == {reason for reason in RefusalReason if reason.value.stage is Stage.HANDSHAKE}


@pytest.mark.parametrize("odd", ODD_CLIENT_CERTIFICATES, ids=lambda odd: odd.name)
def test_odd_certificates_have_a_reason_of_their_own(odd: Any) -> None:
    """What the real Envoy says of each is tested with the real Envoy; here: that we can tell it."""
    if odd.reason is not None:
        assert classify(f"TLS_error:|1:x:{odd.reason}:TLS_error_end", "") is not RefusalReason.HANDSHAKE_FAILED


def test_a_slow_handshake_is_told_by_the_details() -> None:
    assert classify("", "transport socket timeout was reached") is RefusalReason.HANDSHAKE_TIMEOUT
    assert classify("", "something else") is RefusalReason.HANDSHAKE_FAILED
    assert classify(TLS.format("NO_SHARED_CIPHER"), "transport socket timeout") is RefusalReason.NO_COMMON_CIPHER


PEER: dict[str, object] = {"peer": "192.0.2.7:4711", "serial": "0a1b", "subject": "CN=dev-1"}


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_failed_handshake_is_read() -> None:
    text = VERIFY.format("0:_certificate_has_expired")
    event = parse(line(log="handshake", reason=text, details=None, **PEER))
    assert isinstance(event, HandshakeLine)
    assert (event.peer.address, event.peer.serial, event.peer.subject) == ("192.0.2.7:4711", "0a1b", "CN=dev-1")
    assert event.reason is RefusalReason.EXPIRED
    assert event.detail == text
    assert event.text == "TLS handshake error from 192.0.2.7:4711: the client's certificate has expired"


@pytest.mark.parametrize("milliseconds", [0, 12])
def test_a_connection_that_ends_after_its_handshake_is_no_news(milliseconds: int) -> None:
    reset = "TLS_error:_Connection_reset_by_peer"
    assert parse(line(log="handshake", reason=reset, handshake_ms=milliseconds, **PEER)) is None
    assert isinstance(parse(line(log="handshake", reason=reset, handshake_ms=None, **PEER)), HandshakeLine)


def test_a_handshake_that_timed_out_is_read() -> None:
    event = parse(
        line(log="handshake", peer="192.0.2.7:1", serial=None, subject=None, reason=None, details="timeout was reached")
    )
    assert isinstance(event, HandshakeLine)
    assert event.reason is RefusalReason.HANDSHAKE_TIMEOUT
    assert event.detail == "timeout was reached"
    assert event.peer.serial is None


def request_line(**fields: object) -> RequestLine:
    usual: dict[str, object] = {
        "method": "GET",
        "path": "/api/devices/v1/x",
        "code": 200,
        "details": "via_upstream",
        "upstream": "mender",
        "upstream_failure": None,
        "received": 0,
        "sent": 12,
        "ms": 3,
        "request_id": "id-1",
    }
    event = parse(line(log="request", **PEER, **{**usual, **fields}))
    assert isinstance(event, RequestLine)
    return event


def test_a_request_is_read() -> None:
    event = request_line()
    assert (event.method, event.path, event.status, event.details) == ("GET", "/api/devices/v1/x", 200, "via_upstream")
    assert (event.upstream, event.upstream_failure) == ("mender", None)
    assert (event.received, event.sent, event.milliseconds, event.request_id) == (0, 12, 3, "id-1")
    assert event.refusal is None
    assert not event.by_admission


def test_a_broken_request_has_gaps() -> None:
    nothing = dict.fromkeys(["method", "path", "code", "details", "upstream", "received", "sent", "ms", "request_id"])
    event = request_line(**nothing)
    assert (event.method, event.path, event.status, event.details) == ("-", "-", 0, "")
    assert event.refusal is None


def test_what_the_admission_service_answered_is_known() -> None:
    assert request_line(upstream="admission").by_admission
    assert not request_line(upstream="admission", details="upstream_reset", code=503).by_admission


@pytest.mark.parametrize(
    ("details", "code", "reason"),
    [
        ("rbac_access_denied_matched_policy[server_certificate]", 403, RefusalReason.SERVER_CERTIFICATE),
        ("rbac_access_denied_matched_policy[ca_certificate]", 403, RefusalReason.CA_CERTIFICATE),
        ("rbac_access_denied_matched_policy[none]", 401, RefusalReason.TOKEN_OF_ANOTHER_CERTIFICATE),
        ("jwt_authn_access_denied{Jwt_is_missing}", 401, RefusalReason.TOKEN_REFUSED),
        ("jwt_authn_access_denied{Jwt_is_expired}", 401, RefusalReason.TOKEN_REFUSED),
        ("rbac_access_denied_matched_policy[other]", 403, None),
        ("request_payload_too_large", 413, RefusalReason.BODY_TOO_LARGE),
        ("direct_response", 404, RefusalReason.PATH_NOT_ALLOWED),
        ("direct_response", 200, None),
        ("via_upstream", 404, None),
        ("upstream_reset_before_response_started{connection_failure}", 503, None),
    ],
)
def test_why_envoy_refused_a_request(details: str, code: int, reason: RefusalReason | None) -> None:
    assert request_line(details=details, code=code).refusal is reason


@pytest.mark.parametrize("text", [b"", b"junk", b"[]", b"1", b"null", b"{}", b'{"log": "other"}', b"\xff", b'{"log":'])
def test_what_is_no_line_of_ours_is_nothing(text: bytes) -> None:
    assert parse(text) is None


@given(st.binary())
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert parse(data) is None or data.startswith(b"{")


@given(st.sampled_from(["handshake", "request"]), st.dictionaries(st.sampled_from(sorted(PEER)), st.text()), st.text())
def test_any_text_of_a_stranger_can_be_read(kind: str, peer: dict[str, str], text: str) -> None:
    assert parse(line(log=kind, reason=text, details=text, path=text, method=text, **peer)) is not None


def alarm_line(**fields: object) -> AlarmLine | None:
    usual: dict[str, object] = {"log": "alarm", "sha256": "cd" * 32, "certificate": "PEM", "request_id": "id-1"}
    event = parse(line(**PEER | usual | fields))
    assert event is None or isinstance(event, AlarmLine)
    return event


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ("rbac_access_denied_matched_policy[none]", RefusalReason.TOKEN_OF_ANOTHER_CERTIFICATE),
        ("rbac_access_denied_matched_policy[ca_certificate]", RefusalReason.CA_CERTIFICATE),
        ("jwt_authn_access_denied{Jwt_verification_fails}", RefusalReason.TOKEN_OF_UNKNOWN_KEY),
        (
            "jwt_authn_access_denied{Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt}",
            RefusalReason.TOKEN_OF_UNKNOWN_KEY,
        ),
    ],
)
def test_an_alarm_is_read(details: str, reason: RefusalReason) -> None:
    event = alarm_line(details=details, token_of="ab" * 32)
    assert event is not None
    assert (event.reason, event.token_of, event.sha256) == (reason, "ab" * 32, "cd" * 32)
    assert (event.certificate, event.request_id, event.peer.serial) == ("PEM", "id-1", "0a1b")


@pytest.mark.parametrize("details", ["jwt_authn_access_denied{Jwt_is_expired}", "via_upstream", None])
def test_an_ordinary_refusal_is_no_alarm(details: str | None) -> None:
    assert alarm_line(details=details) is None


@pytest.mark.parametrize("odd", [None, "", "AB" * 32, "ab" * 31, 7, {"x": 1}])
def test_only_a_fingerprint_is_taken_for_one(odd: object) -> None:
    event = alarm_line(details="rbac_access_denied_matched_policy[none]", token_of=odd)
    assert event is not None
    assert event.token_of is None

"""Envoy's log lines, read back and put into words. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtls_ambassador.edge import token_binding
from mtls_ambassador.edge.access_log import ALARM, HANDSHAKE, REQUEST
from mtls_ambassador.edge.clusters import ADMISSION
from mtls_ambassador.refusals import RefusalReason

_SHA256 = re.compile("[0-9a-f]{64}")

# First match wins; the texts are BoringSSL's, as %DOWNSTREAM_TRANSPORT_FAILURE_REASON% gives them.
_BY_SUBSTRING: tuple[tuple[str, RefusalReason], ...] = (
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", RefusalReason.NO_CERTIFICATE),
    ("depth_0:_certificate_has_expired", RefusalReason.EXPIRED),
    ("certificate_has_expired", RefusalReason.ISSUER_EXPIRED),
    ("depth_0:_certificate_is_not_yet_valid", RefusalReason.NOT_YET_VALID),
    ("certificate_is_not_yet_valid", RefusalReason.ISSUER_NOT_YET_VALID),
    ("certificate_revoked", RefusalReason.REVOKED),
    ("depth_0:_self_signed_certificate", RefusalReason.SELF_SIGNED),
    ("self_signed_certificate_in_certificate_chain", RefusalReason.UNKNOWN_CA),
    ("unable_to_get_local_issuer_certificate", RefusalReason.UNKNOWN_CA),
    ("invalid_CA_certificate", RefusalReason.UNKNOWN_CA),
    ("certificate_signature_failure", RefusalReason.BAD_SIGNATURE),
    ("unsupported_certificate_purpose", RefusalReason.WRONG_PURPOSE),
    ("KEY_USAGE_BIT_INCORRECT", RefusalReason.WRONG_PURPOSE),
    ("unhandled_critical_extension", RefusalReason.CRITICAL_EXTENSION),
    ("unable_to_decode_issuer_public_key", RefusalReason.UNSUPPORTED_CERTIFICATE_KEY),
    ("UNSUPPORTED_ALGORITHM", RefusalReason.UNSUPPORTED_CERTIFICATE_KEY),
    ("ALERT_UNKNOWN_CA", RefusalReason.SERVER_NOT_TRUSTED),
    ("ALERT_BAD_CERTIFICATE", RefusalReason.SERVER_NOT_TRUSTED),
    ("ALERT_CERTIFICATE_UNKNOWN", RefusalReason.SERVER_NOT_TRUSTED),
    ("ALERT_CERTIFICATE_EXPIRED", RefusalReason.SERVER_NOT_TRUSTED),
    # An OpenSSL client on TLS 1.3 sends that alert in clear, which reads as a broken record.
    ("BAD_PACKET_LENGTH", RefusalReason.SERVER_NOT_TRUSTED),
    ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", RefusalReason.SERVER_NOT_TRUSTED),
    ("UNSUPPORTED_PROTOCOL", RefusalReason.PROTOCOL_VERSION),
    ("ALERT_PROTOCOL_VERSION", RefusalReason.PROTOCOL_VERSION),
    ("NO_SHARED_CIPHER", RefusalReason.NO_COMMON_CIPHER),
    ("NO_SHARED_GROUP", RefusalReason.NO_COMMON_CIPHER),
    ("WRONG_CURVE", RefusalReason.NO_COMMON_CIPHER),
    ("HTTP_REQUEST", RefusalReason.PLAIN_HTTP),
    ("HTTPS_PROXY_REQUEST", RefusalReason.PLAIN_HTTP),
    ("WRONG_VERSION_NUMBER", RefusalReason.NOT_TLS),
    ("Secret_is_not_supplied", RefusalReason.NOT_READY),
    ("Connection_reset_by_peer", RefusalReason.CLIENT_LEFT),
    ("Broken_pipe", RefusalReason.CLIENT_LEFT),
)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who it was, as far as TLS came."""

    address: str
    serial: str | None
    """Of the certificate, lower-case hex; None where there was none."""
    subject: str | None
    """RFC 2253 text."""


@dataclass(frozen=True, slots=True)
class HandshakeLine:
    """A connection that failed before its first request."""

    peer: Peer
    reason: RefusalReason
    detail: str
    """BoringSSL's own words."""

    @property
    def text(self) -> str:
        """The line a person reads."""
        return f"TLS handshake error from {self.peer.address}: {self.reason.value.log}"


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A request, answered."""

    peer: Peer
    method: str
    path: str
    """Without its query."""
    status: int
    details: str
    """Envoy's `%RESPONSE_CODE_DETAILS%`."""
    upstream: str | None
    upstream_failure: str | None
    received: int
    sent: int
    milliseconds: int
    request_id: str | None

    @property
    def by_admission(self) -> bool:
        """Whether the admission service answered it, and has logged why."""
        return self.upstream == ADMISSION and self.details == "via_upstream"

    @property
    def refusal(self) -> RefusalReason | None:
        """Why Envoy itself refused it; None if it did not, or for a reason of HTTP alone."""
        if (reason := alarm(self.details)) is not None:
            return reason
        if self.details.startswith(token_binding.DENIED):
            return RefusalReason.TOKEN_REFUSED
        if self.details == "request_payload_too_large":
            return RefusalReason.BODY_TOO_LARGE
        if self.details == "direct_response" and self.status >= 400:
            return RefusalReason.PATH_NOT_ALLOWED
        return None


@dataclass(frozen=True, slots=True)
class AlarmLine:
    """A refusal of Envoy's that means theft or forgery, if not a mistake."""

    peer: Peer
    sha256: str
    """Of the certificate, lower-case hex."""
    certificate: str
    """The certificate: PEM, URL-encoded."""
    reason: RefusalReason
    token_of: str | None
    """SHA-256 of the certificate that the token was handed out to; None if nothing true is known of the token."""
    path: str
    """Without its query."""
    request_id: str


def alarm(details: str) -> RefusalReason | None:
    """Whether a refusal with these response code details means theft or forgery, if not a mistake."""
    name = details.removeprefix("rbac_access_denied_matched_policy[").rstrip("]")
    for reason in (RefusalReason.SERVER_CERTIFICATE, RefusalReason.CA_CERTIFICATE):
        if name == reason.label:
            return reason
    if details == token_binding.MISMATCH:
        return RefusalReason.TOKEN_OF_ANOTHER_CERTIFICATE
    return RefusalReason.TOKEN_OF_UNKNOWN_KEY if details in token_binding.UNKNOWN_KEY else None


def parse(line: bytes) -> HandshakeLine | RequestLine | AlarmLine | None:
    """Read one line of Envoy's standard output; None for what is no access log line of ours."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    peer = Peer(str(fields.get("peer")), fields.get("serial"), fields.get("subject"))
    if fields.get("log") == HANDSHAKE and fields.get("handshake_ms") is not None:
        return None  # it had succeeded: a device that goes away later is no news
    if fields.get("log") == HANDSHAKE:
        reason, details = fields.get("reason") or "", fields.get("details") or ""
        return HandshakeLine(peer, classify(reason, details), reason or details)
    if fields.get("log") == REQUEST:
        return _request(peer, fields)
    return _alarm(peer, fields) if fields.get("log") == ALARM else None


def classify(reason: str, details: str) -> RefusalReason:
    """Name the failure from Envoy's transport failure reason and connection termination details."""
    for substring, failure in _BY_SUBSTRING:
        if substring in reason:
            return failure
    return RefusalReason.HANDSHAKE_TIMEOUT if "timeout" in details else RefusalReason.HANDSHAKE_FAILED


def _alarm(peer: Peer, fields: Mapping[str, Any]) -> AlarmLine | None:
    reason, token_of = alarm(fields.get("details") or ""), fields.get("token_of")
    if reason is None:
        return None
    return AlarmLine(
        peer=peer,
        sha256=fields.get("sha256") or "",
        certificate=fields.get("certificate") or "",
        reason=reason,
        token_of=token_of if isinstance(token_of, str) and _SHA256.fullmatch(token_of) else None,
        path=fields.get("path") or "-",
        request_id=fields.get("request_id") or "",
    )


def _request(peer: Peer, fields: Mapping[str, Any]) -> RequestLine:
    return RequestLine(
        peer=peer,
        method=fields.get("method") or "-",
        path=fields.get("path") or "-",
        status=fields.get("code") or 0,
        details=fields.get("details") or "",
        upstream=fields.get("upstream"),
        upstream_failure=fields.get("upstream_failure"),
        received=fields.get("received") or 0,
        sent=fields.get("sent") or 0,
        milliseconds=fields.get("ms") or 0,
        request_id=fields.get("request_id"),
    )

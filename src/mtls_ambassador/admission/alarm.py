"""What Envoy refuses on ordinary requests since it means theft or forgery, as events to be remembered. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from mtls_ambassador.admission.anchor import Anchors
from mtls_ambassador.admission.certificate import PeerCertificate, read_certificate
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.ledger.records import Event, EventKind
from mtls_ambassador.refusals import RefusalReason


@dataclass(frozen=True, slots=True)
class Alarm:
    """Such a refusal."""

    reason: RefusalReason
    certificate: str
    """The one that was shown: PEM, URL-encoded."""
    sha256: str
    """Of that certificate, lower-case hex."""
    token_of: str | None
    """Of the certificate that the token was handed out to, as the edge's own signature vouches for."""
    address: str
    request_id: str
    left_out: int
    """How many like it came before that are not told."""


def alarm_event(alarm: Alarm, anchors: Anchors, at: dt.datetime) -> Event:
    """What the ledger and the audit log remember of it.

    Whose the copied token is, the ledger finds out: it knows what that certificate was admitted with.

    Args:
        alarm: The refusal.
        anchors: Whose certificates are.
        at: With its time zone.
    """
    told = [f"the token was handed out to the certificate with SHA-256 {alarm.token_of}"] if alarm.token_of else []
    try:
        certificate = read_certificate(alarm.certificate)
        record = certificate.record(_anchor(certificate, alarm.certificate, anchors))
    except Refused as unreadable:
        record = None
        told.append(f"the certificate with SHA-256 {alarm.sha256} cannot be read: {unreadable.detail}")
    return Event(
        at,
        EventKind.REFUSED,
        alarm.request_id,
        alarm.address,
        certificate=record,
        reason=alarm.reason.label,
        detail="; ".join(told),
        token_of=alarm.token_of,
        left_out=alarm.left_out,
    )


def _anchor(certificate: PeerCertificate, header: str, anchors: Anchors) -> str:
    """Its trust anchor; empty where only intermediates would tell, which Envoy logs nothing of."""
    try:
        return anchors.for_certificate(certificate, header).name
    except Refused:
        return ""

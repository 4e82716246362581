"""Tells in our log what became of auth requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from mtls_ambassador.admission.admit import Verdict
from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.journal import Attempt
from mtls_ambassador.admission.policy import BindingMismatch
from mtls_ambassador.admission.request import AuthRequest
from mtls_ambassador.observe.throttle import ThrottleEach
from mtls_ambassador.refusals import RefusalReason

_log = structlog.get_logger()


@dataclass(slots=True)
class Flight:
    """What is known of an auth request so far; its log line says as much."""

    request_id: str
    address: str
    started: float
    """Monotonic seconds."""
    certificate: PeerCertificate | None = None
    request: AuthRequest | None = None
    attempt: Attempt | None = None
    anchor: str = ""
    """Name of the certificate's trust anchor; empty until it is found."""
    mender_status: int | None = None
    """HTTP status of Mender's last answer to the auth request; None: it has none."""


class Narrator:
    """One line for each auth request, throttled by certificate; news of an admission is always told.

    Admissions that are news need Mender's management API or one of the few forwards beside it: `admit` bounds them.
    Everything else costs a device nothing, so it could bury such a line under others.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines = ThrottleEach(burst=200, per_second=0.5)
        self._warnings = ThrottleEach(burst=3, per_second=1 / 300)

    def answered(self, flight: Flight, verdict: Verdict) -> None:
        """Tell that the device got Mender's answer."""
        status = verdict.answer.status
        if status == 200 and not verdict.known:
            left_out: int | None = 0
        else:
            left_out = self._admit(flight)
        if left_out is None:
            return
        if verdict.reason is not None:
            self._refused(flight, verdict.reason, verdict.detail, status, left_out)
        elif status == 200:
            _log.info(f"admitted {flight.address}", **self._fields(flight, status, left_out))
        else:
            _log.warning(
                f"Mender answered {status} to the auth request of {flight.address}",
                **self._fields(flight, status, left_out),
            )

    def refused(self, flight: Flight, refusal: Refused) -> bool:
        """Tell that the edge refused the request, unless too many such lines were told lately; whether it was told."""
        left_out = self._admit(flight)
        if left_out is not None:
            self._refused(flight, refusal.reason, refusal.detail, refusal.reason.value.status, left_out)
        return left_out is not None

    def warned(self, flight: Flight, mismatch: BindingMismatch) -> None:
        """Tell that the device would have been refused if the binding's mode were `refuse`."""
        left_out = self._warnings.admit(flight.certificate.fingerprint if flight.certificate else None, self._clock())
        if left_out is None:
            return
        reason = RefusalReason.IDENTITY_MISMATCH
        _log.warning(
            f"binding mode refuse would refuse {flight.address}: {reason.value.log}",
            would_be=reason.label,
            detail=mismatch.what,
            **self._fields(flight, None, left_out),
        )

    def summarise(self) -> None:
        """Say how many lines were left out and not yet told."""
        left_out = self._lines.take()
        if left_out:
            _log.warning(f"{left_out} more auth requests were left out of this log", left_out=left_out)

    def _admit(self, flight: Flight) -> int | None:
        certificate = flight.certificate.fingerprint if flight.certificate else None
        return self._lines.admit(certificate, self._clock())

    def _refused(self, flight: Flight, reason: RefusalReason, detail: str, status: int | None, left_out: int) -> None:
        _log.warning(
            f"refused {flight.address}: {reason.value.log}",
            reason=reason.label,
            detail=detail or None,
            **self._fields(flight, status, left_out),
            remedy=reason.value.remedy,
        )

    def _fields(self, flight: Flight, status: int | None, left_out: int) -> dict[str, object]:
        certificate, request = flight.certificate, flight.request
        return {
            "status": status,
            "identity": request.identity.normal_form if request else None,
            "serial": certificate.serial if certificate else None,
            "subject": certificate.subject if certificate else None,
            "anchor": flight.anchor or None,
            "ms": round((self._clock() - flight.started) * 1000),
            "request_id": flight.request_id,
            "left_out": left_out or None,
        }

"""The life of a verified auth request: preauthorise, forward, and on 401 find out why and whether to accept.

The shell around `decision`: it asks Mender, in the order of the admission table, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.decision import Accept, Decision, Refuse, decide
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.flights import Flights
from mtls_ambassador.admission.memory import AdmittedLately, admission_key
from mtls_ambassador.admission.request import AuthRequest
from mtls_ambassador.mender.egress import Answer
from mtls_ambassador.mender.errors import (
    DeviceLimitReached,
    ManagementForbidden,
    ManagementUnavailable,
    StateChanged,
    UpstreamUnavailable,
)
from mtls_ambassador.mender.management import Management, MenderDevice
from mtls_ambassador.observe.throttle import ThrottleEach
from mtls_ambassador.refusals import RefusalReason

_log = structlog.get_logger()

Forward = Callable[[], Awaitable[Answer]]

_LONGEST_RETRY = 300.0
_TRIES = 10
_TRIES_PER_SECOND = 1 / 15
_FORWARDS = 60
_FORWARDS_PER_SECOND = 1.0
_CERTIFICATES = 100_000
_RETRY_BUSY = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the device gets, and what the log says."""

    answer: Answer
    """Mender's own answer, unchanged."""
    reason: RefusalReason | None = None
    """Why it is not 200, where we know."""
    detail: str = ""
    known: bool = False
    """It was admitted lately, so 200 is no news."""


class Admission:
    """Admits devices.

    Args:
        management: Mender's management API.
        memory: What was admitted lately.
        flights: Serialises what happens to one identity, and bounds what one certificate may start.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        management: Management,
        memory: AdmittedLately,
        flights: Flights,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._management = management
        self._memory = memory
        self._flights = flights
        self._clock = clock
        # An honest device needs one such try a day; what a hostile one may cost Mender's management API, whose rate is
        # limited for the whole edge, stays small.
        self._tries = ThrottleEach(burst=_TRIES, per_second=_TRIES_PER_SECOND, peers=_CERTIFICATES)
        self._forwards = ThrottleEach(burst=_FORWARDS, per_second=_FORWARDS_PER_SECOND, peers=_CERTIFICATES)

    async def admit(
        self, request: AuthRequest, certificate: PeerCertificate, forward: Forward, request_id: str
    ) -> Verdict:
        """Get the device in, if that is right.

        Args:
            request: Parsed and verified.
            certificate: Whose request it is.
            forward: Sends the request to Mender, unchanged.
            request_id: Goes along with every call.

        Returns:
            Mender's own answer.

        Raises:
            Refused: with one of the reasons of the admission stage, or `busy`.
        """
        with self._flights.board(certificate.fingerprint):
            return await self._admit(request, certificate, forward, request_id)

    async def _admit(
        self, request: AuthRequest, certificate: PeerCertificate, forward: Forward, request_id: str
    ) -> Verdict:
        identity = request.identity.normal_form
        key = admission_key(identity, request.public_key, certificate.fingerprint)
        if key in self._memory:
            # Known: nothing about Mender's state changes, so it needs no place in the queue either.
            answer = await self._forward(forward)
            if answer.status != 401:
                return self._settle(key, answer, known=True)
            self._memory.drop(key)
        async with self._flights.fly(identity, certificate.fingerprint):
            if self._tries.admit(certificate.fingerprint, self._clock()) is None:
                return await self._forward_only(key, certificate, forward)
            return await self._admit_unknown(request, key, forward, request_id)

    async def _forward_only(self, key: bytes, certificate: PeerCertificate, forward: Forward) -> Verdict:
        """Ask nothing of the management API: this certificate has used up its share of it.

        A device that Mender accepts still gets in. Any other is left pending there, so that is bounded as well.
        """
        if self._forwards.admit(certificate.fingerprint, self._clock()) is None:
            raise Refused(RefusalReason.BUSY, "too many auth requests", retry_after=_RETRY_BUSY)
        answer = await self._forward(forward)
        if answer.status == 401:
            self._memory.drop(key)
            raise Refused(RefusalReason.BUSY, "too many tries that Mender does not accept", retry_after=_RETRY_BUSY)
        return self._settle(key, answer)

    async def _admit_unknown(self, request: AuthRequest, key: bytes, forward: Forward, request_id: str) -> Verdict:
        try:
            device_id = await self._management.preauthorise(
                request.identity.attributes, request.public_key_pem, request_id
            )
        except ManagementUnavailable as error:
            # Admitted devices still get in. For any other we cannot tell why Mender says 401, so that is not passed on.
            answer = await self._forward(forward)
            if answer.status == 401:
                raise _unavailable(error) from error
            return self._settle(key, answer)
        except ManagementForbidden as error:
            return self._too_narrow(key, await self._forward(forward), error)
        answer = await self._forward(forward)
        if answer.status != 401:
            return self._settle(key, answer)
        self._memory.drop(key)
        return await self._resolve(request, key, forward, request_id, answer=answer, device_id=device_id)

    async def _resolve(
        self,
        request: AuthRequest,
        key: bytes,
        forward: Forward,
        request_id: str,
        *,
        answer: Answer,
        device_id: str | None,
    ) -> Verdict:
        """Mender said 401: read the device's auth sets, and do what the table says."""
        if device_id is None:
            # We have just preauthorised it: what a fresh preauthorised key meets is the device limit.
            return Verdict(answer, RefusalReason.DEVICE_LIMIT, "preauthorised a moment ago")
        decision: Decision = Refuse(RefusalReason.MENDER_REFUSED)

        def choose(device: MenderDevice | None) -> str | None:
            nonlocal decision
            decision = decide(device, request.public_key)
            _log.debug(
                "decided on a key that Mender refused",
                device=device_id,
                auth_sets=[item.status.value for item in device.auth_sets] if device else None,
                decision=str(decision),
                request_id=request_id,
            )
            return decision.auth_set_id if isinstance(decision, Accept) else None

        try:
            if await self._management.accept_where(device_id, choose, request_id):
                _log.info(
                    "accepted the device's pending key in Mender",
                    identity=request.identity.normal_form,
                    device=device_id,
                    request_id=request_id,
                )
                return self._settle(key, await self._forward(forward))
        except ManagementUnavailable as error:
            raise _unavailable(error) from error
        except ManagementForbidden as error:
            return self._too_narrow(key, answer, error)
        except DeviceLimitReached as error:
            return Verdict(answer, RefusalReason.DEVICE_LIMIT, error.what)
        except StateChanged as error:
            return Verdict(answer, RefusalReason.MENDER_REFUSED, error.what)
        reason = decision.reason if isinstance(decision, Refuse) else RefusalReason.MENDER_REFUSED
        if reason.value.status is None:
            return Verdict(answer, reason)
        raise Refused(reason)

    async def _forward(self, forward: Forward) -> Answer:
        try:
            return await forward()
        except UpstreamUnavailable as error:
            raise Refused(RefusalReason.UPSTREAM_UNAVAILABLE, error.what, retry_after=30) from error

    def _settle(self, key: bytes, answer: Answer, *, known: bool = False) -> Verdict:
        if answer.status == 200:
            self._memory.add(key)
            return Verdict(answer, known=known)
        self._memory.drop(key)
        return Verdict(answer, RefusalReason.MENDER_REFUSED if answer.status == 401 else None)

    def _too_narrow(self, key: bytes, answer: Answer, error: ManagementForbidden) -> Verdict:
        if answer.status != 401:
            return self._settle(key, answer)
        self._memory.drop(key)
        return Verdict(answer, RefusalReason.MANAGEMENT_ROLE_TOO_NARROW, error.what)


def _unavailable(error: ManagementUnavailable) -> Refused:
    retry_after = min(max(error.retry_after, 1.0), _LONGEST_RETRY)
    return Refused(RefusalReason.MANAGEMENT_UNAVAILABLE, error.what, retry_after=retry_after)

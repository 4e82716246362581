"""The life of a verified auth request: whose is the identity, preauthorise, forward, and on 401 find out why.

The shell around `standing` and `decision`: it asks the ledger and Mender, in the order of the admission table.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol

import structlog

from mtls_ambassador.admission.contests import Contests
from mtls_ambassador.admission.decision import Accept, Decision, Refuse, decide
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.flights import Flights
from mtls_ambassador.admission.journal import Attempt, Journal
from mtls_ambassador.admission.memory import AdmittedLately, admission_key
from mtls_ambassador.admission.request import AuthRequest
from mtls_ambassador.admission.standing import Ground, Standing, Terms, require_own_identity, stand
from mtls_ambassador.admission.tenant import require_own_tenant
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.records import Claim, EventKind, Facts
from mtls_ambassador.mender.device_token import DeviceToken, read_device_token
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
_RETRY_LEDGER = 30.0


_NOTHING = Facts()
_UNJUDGED = Standing(Ground.FREE, "")


class Memory(Protocol):
    """What remembers for longer than this process lives."""

    async def facts(self, claim: Claim) -> Facts:
        """What is known about a claim.

        Raises:
            LedgerUnavailable: nobody can say now.
        """


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


@dataclass(frozen=True, slots=True)
class Shared:
    """What all admissions of one edge have in common, whatever the trust anchor."""

    lately: AdmittedLately
    flights: Flights
    contests: Contests
    ledger: Memory
    journal: Journal


@dataclass(frozen=True, slots=True)
class _Flight:
    """One auth request that is not remembered, and what is known of it."""

    request: AuthRequest
    attempt: Attempt
    forward: Forward
    key: bytes
    facts: Facts = _NOTHING
    standing: Standing = _UNJUDGED
    refused: bool = False
    """Mender has just said 401 to it."""


class Admission:
    """Admits the devices of one trust anchor.

    Args:
        management: Mender's management API, with the anchor's credentials.
        terms: The owner's.
        shared: What it has in common with other anchors' admissions.
        clock: Monotonic seconds.
        now: The time, with its time zone.
    """

    def __init__(
        self,
        management: Management,
        terms: Terms,
        shared: Shared,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._management = management
        self._terms = terms
        self._lately, self._flights = shared.lately, shared.flights
        self._contests, self._ledger, self._journal = shared.contests, shared.ledger, shared.journal
        self._clock, self._now = clock, now
        # An honest device needs one such try a day; what a hostile one may cost Mender's management API, whose rate is
        # limited for the whole edge, stays small.
        self._tries = ThrottleEach(burst=_TRIES, per_second=_TRIES_PER_SECOND, peers=_CERTIFICATES)
        self._forwards = ThrottleEach(burst=_FORWARDS, per_second=_FORWARDS_PER_SECOND, peers=_CERTIFICATES)

    async def admit(self, request: AuthRequest, attempt: Attempt, forward: Forward) -> Verdict:
        """Get the device in, if that is right.

        Args:
            request: Parsed and verified.
            attempt: Whose request it is, and who it says to be.
            forward: Sends the request to Mender, unchanged.

        Returns:
            Mender's own answer.

        Raises:
            Refused: with one of the reasons of the admission stage, `certificate_has_another_identity` or `busy`.
        """
        claim = attempt.claim
        key = admission_key(claim.identity, claim.auth_key, claim.certificate.fingerprint)
        flight = _Flight(request, attempt, forward, key)
        with self._flights.board(claim.certificate.key):
            if key in self._lately:
                self._watch(attempt, serious=True)
                # Known: nothing about Mender's state changes, so it needs no place in the queue either.
                answer = await self._forward(flight)
                if answer.status != 401:
                    return self._settle(flight, answer, known=True)
                self._lately.drop(key)
                flight = replace(flight, refused=True)
            async with self._flights.fly(claim.identity, claim.certificate.key):
                return await self._admit_unremembered(flight)

    def _watch(self, attempt: Attempt, *, serious: bool) -> None:
        if self._contests.note(attempt.claim.identity, attempt.claim.auth_key, serious=serious):
            _log.warning(
                "several keys claim one identity by turns; none takes it over until they stop for ten minutes",
                identity=attempt.claim.identity,
                subject=attempt.claim.certificate.subject,
                serial=attempt.claim.certificate.serial,
                request_id=attempt.request_id,
            )
            self._journal.enter(EventKind.CONTESTED, attempt)

    async def _admit_unremembered(self, flight: _Flight) -> Verdict:
        claim = flight.attempt.claim
        try:
            facts = await self._ledger.facts(claim)
        except LedgerUnavailable as error:
            return await self._without_ledger(flight, error)
        require_own_identity(claim, facts, self._terms)
        standing = stand(claim, facts, self._terms, self._now())
        self._watch(flight.attempt, serious=standing.ground is Ground.OWN or standing.may_take_over)
        standing = self._contested(claim, standing)
        flight = replace(flight, facts=facts, standing=standing)
        if facts.auth_key_is_anothers and not facts.known and not standing.may_take_over:
            raise Refused(
                RefusalReason.KEY_CHANGE_NEEDS_APPROVAL,
                "its authentication key was admitted with another certificate",
                rule=standing.rule,
            )
        if facts.known and not flight.refused:
            answer = await self._forward(flight)
            if answer.status != 401:
                return self._settle(flight, answer)
        if self._tries.admit(claim.certificate.key, self._clock()) is None:
            # Not even forwarded: each try with another identity would leave a pending device in Mender.
            raise Refused(RefusalReason.BUSY, "too many tries that Mender does not accept", retry_after=_RETRY_BUSY)
        if not standing.may_claim:
            return await self._claim_of_anothers(flight)
        return await self._preauthorise(flight)

    def _contested(self, claim: Claim, standing: Standing) -> Standing:
        """What becomes of a standing while keys claim the identity by turns; an operator's word stands."""
        if standing.ground in (Ground.OWN, Ground.FREE, Ground.ADOPTION):
            return standing
        to_and_fro = self._contests.contested if standing.may_take_over else self._contests.fought_over
        if not to_and_fro(claim.identity):
            return standing
        return Standing(Ground.CONTESTED, "several keys claim it by turns; who has it keeps it", standing.rule)

    async def _without_ledger(self, flight: _Flight, error: LedgerUnavailable) -> Verdict:
        """Nobody can say whose the identity is: whom Mender accepts gets in, nobody else.

        Mender knows a key, not a certificate; so a key that is not the certificate's own tells nothing here. Whatever
        Mender does not accept is left pending there, so this is bounded.
        """
        claim = flight.attempt.claim
        refused = Refused(RefusalReason.LEDGER_UNAVAILABLE, error.what, retry_after=_RETRY_LEDGER)
        if claim.auth_key != claim.certificate.key:
            raise refused
        if self._forwards.admit(claim.certificate.key, self._clock()) is None:
            raise Refused(RefusalReason.BUSY, "too many auth requests", retry_after=_RETRY_BUSY)
        answer = await self._forward(flight)
        if answer.status == 401:
            self._lately.drop(flight.key)
            raise refused
        return self._settle(flight, answer)

    async def _claim_of_anothers(self, flight: _Flight) -> Verdict:
        """Somebody else has the identity: nothing is preauthorised or accepted; an operator may have done so."""
        answer = await self._forward(flight)
        if answer.status != 401:
            return self._settle(flight, answer)
        holder = flight.facts.holder
        if holder is None or holder.mender_id is None:
            raise Refused(flight.standing.refusal, flight.standing.why, rule=flight.standing.rule)
        return await self._resolve(flight, answer, holder.mender_id)

    async def _preauthorise(self, flight: _Flight) -> Verdict:
        request, request_id = flight.request, flight.attempt.request_id
        try:
            known_as = await self._management.preauthorise(
                request.identity.attributes, request.public_key_pem, request_id
            )
        except ManagementUnavailable as error:
            # Admitted devices still get in. For any other we cannot tell why Mender says 401, so that is not passed on.
            answer = await self._forward(flight)
            if answer.status == 401:
                raise _unavailable(error) from error
            return self._settle(flight, answer)
        except ManagementForbidden as error:
            return self._too_narrow(flight, await self._forward(flight), error)
        if known_as is None:
            # Whatever Mender answers now: this is the identity that the certificate has claimed.
            self._journal.enter(
                EventKind.PREAUTHORISED,
                flight.attempt,
                rule=flight.standing.why,
                mender_status=HTTPStatus.CREATED.value,
            )
        answer = await self._forward(flight)
        if answer.status != 401:
            return self._settle(flight, answer)
        self._lately.drop(flight.key)
        if known_as is None:
            # We have just preauthorised it: what a fresh preauthorised key meets is the device limit.
            return Verdict(answer, RefusalReason.DEVICE_LIMIT, "preauthorised a moment ago")
        return await self._resolve(flight, answer, known_as)

    async def _resolve(self, flight: _Flight, answer: Answer, known_as: str) -> Verdict:
        """Mender said 401: read the device's auth sets, and do what the table says.

        Args:
            flight: The request.
            answer: Mender's 401.
            known_as: Mender's id of the device.
        """
        decision: Decision = Refuse(RefusalReason.MENDER_REFUSED)

        def choose(device: MenderDevice | None) -> Accept | None:
            nonlocal decision
            decision = decide(device, flight.request.public_key, flight.standing)
            _log.debug(
                "decided on a key that Mender refused",
                device=known_as,
                auth_sets=[item.status.value for item in device.auth_sets] if device else None,
                standing=str(flight.standing),
                decision=str(decision),
                request_id=flight.attempt.request_id,
            )
            return decision if isinstance(decision, Accept) else None

        try:
            await self._management.accept_where(known_as, choose, flight.attempt.request_id)
        except ManagementUnavailable as error:
            raise _unavailable(error) from error
        except ManagementForbidden as error:
            return self._too_narrow(flight, answer, error)
        except DeviceLimitReached as error:
            return Verdict(answer, RefusalReason.DEVICE_LIMIT, error.what)
        except StateChanged as error:
            return Verdict(answer, RefusalReason.MENDER_REFUSED, error.what)
        if isinstance(decision, Accept):
            self._tell_acceptance(flight, decision, known_as)
            return self._settle(flight, await self._forward(flight))
        if decision.reason.value.status is None:
            return Verdict(answer, decision.reason, decision.why)
        raise Refused(decision.reason, decision.why, rule=decision.rule)

    def _tell_acceptance(self, flight: _Flight, decision: Accept, known_as: str) -> None:
        kind = EventKind.ACCEPTED
        if decision.takes_over:
            adopted = flight.standing.ground in (Ground.ADOPTION, Ground.ADOPT_UNTIL)
            kind = EventKind.ADOPTED if adopted else EventKind.ROTATED
        _log.info(
            "accepted the device's new key in Mender, in place of the one before"
            if decision.takes_over
            else "accepted the device's pending key in Mender",
            because=flight.standing.why,
            identity=flight.attempt.claim.identity,
            device=known_as,
            request_id=flight.attempt.request_id,
        )
        self._journal.enter(
            kind,
            flight.attempt,
            rule=flight.standing.why,
            mender_id=known_as,
            mender_status=HTTPStatus.NO_CONTENT.value,
        )

    async def _forward(self, flight: _Flight) -> Answer:
        try:
            return await flight.forward()
        except UpstreamUnavailable as error:
            raise Refused(RefusalReason.UPSTREAM_UNAVAILABLE, error.what, retry_after=30) from error

    def _settle(self, flight: _Flight, answer: Answer, *, known: bool = False) -> Verdict:
        if answer.status != 200:
            self._lately.drop(flight.key)
            return Verdict(answer, RefusalReason.MENDER_REFUSED if answer.status == 401 else None)
        token = read_device_token(answer.body)
        require_own_tenant(token, flight.standing, self._management.tenant, logged_in=self._management.calls > 0)
        if known:
            self._enter_move(flight, answer, token)
            return Verdict(answer, known=True)
        self._lately.add(flight.key, flight.attempt.host)
        mender_id, holder = token.device_id, flight.facts.holder
        if holder and holder.mender_id and mender_id and holder.mender_id != mender_id:
            self._journal.enter(
                EventKind.READMITTED,
                flight.attempt,
                rule=flight.standing.why,
                detail=f"formerly {holder.mender_id}",
                mender_id=mender_id,
                mender_status=answer.status,
            )
        self._journal.enter(
            EventKind.ADMITTED,
            flight.attempt,
            rule=flight.standing.why or None,
            mender_id=mender_id,
            mender_status=answer.status,
        )
        return Verdict(answer)

    def _enter_move(self, flight: _Flight, answer: Answer, token: DeviceToken) -> None:
        """Enter one who was admitted lately, if he comes from elsewhere now: his key may have got into other hands.

        From where he was entered he is no news: fleets ask again often.
        """
        before = self._lately.move(flight.key, flight.attempt.host)
        if before is not None:
            self._journal.enter(
                EventKind.ADMITTED,
                flight.attempt,
                rule="admitted within the last hour",
                detail=f"from {before} before",
                mender_id=token.device_id,
                mender_status=answer.status,
            )

    def _too_narrow(self, flight: _Flight, answer: Answer, error: ManagementForbidden) -> Verdict:
        if answer.status != 401:
            return self._settle(flight, answer)
        self._lately.drop(flight.key)
        return Verdict(answer, RefusalReason.MANAGEMENT_ROLE_TOO_NARROW, error.what)


def _unavailable(error: ManagementUnavailable) -> Refused:
    retry_after = min(max(error.retry_after, 1.0), _LONGEST_RETRY)
    return Refused(RefusalReason.MANAGEMENT_UNAVAILABLE, error.what, retry_after=retry_after)

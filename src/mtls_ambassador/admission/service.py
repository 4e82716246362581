"""The admission service: what Envoy sends auth requests to. HTTP in, HTTP out; the thinking is elsewhere."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import structlog
from multidict import CIMultiDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mtls_ambassador.admission.admit import Admission, Verdict
from mtls_ambassador.admission.anchor import Anchors
from mtls_ambassador.admission.certificate import read_certificate, require_device
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.journal import Attempt, Journal
from mtls_ambassador.admission.narrator import Flight, Narrator
from mtls_ambassador.admission.policy import BindingMismatch, IdentityBinding
from mtls_ambassador.admission.rates import AuthRates
from mtls_ambassador.admission.request import parse_auth_request
from mtls_ambassador.config.binding import BindingMode
from mtls_ambassador.ledger.records import Claim, Event, EventKind
from mtls_ambassador.mender.egress import Answer, Egress
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.tokens.bound import NotBindableError, bind
from mtls_ambassador.tokens.keys import TokenKey
from mtls_ambassador.wire import (
    ADDRESS_HEADER,
    AUTH_PATH,
    CERTIFICATE_HEADER,
    CHAIN_HEADER,
    LARGEST_AUTH_BODY,
    REQUEST_ID_HEADER,
)

_log = structlog.get_logger()

_FORWARD_TIMEOUT = 30.0
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
# RFC 9110 section 7.6.1, and what is true of one hop only.
_HOP_BY_HOP = frozenset(
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner wants of certificates."""

    require_same_key: bool
    server_keys: AbstractSet[bytes]
    """SubjectPublicKeyInfo (DER) of the edge's own certificates."""
    ca_keys: AbstractSet[bytes]
    """The same of the trust bundle."""
    bindings: Mapping[str, IdentityBinding]
    """Name of each trust anchor to what ties an identity to its certificates."""
    anchors: Anchors
    """Whose the certificates are."""
    rates: AuthRates
    """How many auth requests are listened to."""
    token_key: TokenKey | None = None
    """Signs bound tokens; None: devices get Mender's own."""


@dataclass(slots=True)
class Outcomes:
    """How often what happened since the start: `admitted`, `mender_answer`, or a refusal reason's label.

    `binding_warned` counts beside these: the device would have been refused, and goes on.
    """

    counts: Counter[str] = field(default_factory=Counter)


def create_app(
    admissions: Mapping[str, Admission],
    egress: Egress,
    policy: Policy,
    outcomes: Outcomes,
    narrator: Narrator,
    journal: Journal,
) -> ASGIApp:
    """The ASGI application. Envoy alone can reach it, through a socket of mode 0600.

    One path and one method, without Starlette's router and middleware: they took a tenth of Python's time for an auth
    request.

    Args:
        admissions: Name of each trust anchor to who admits its devices, with that anchor's credentials.
        egress: The way to Mender.
        policy: What the owner wants.
        outcomes: Counts what happens.
        narrator: Tells it.
        journal: Has it remembered.
    """

    def warned(flight: Flight, mismatch: BindingMismatch) -> None:
        """The certificate does not match the identity; with mode `refuse` this device would have been refused."""
        outcomes.counts["binding_warned"] += 1
        narrator.warned(flight, mismatch)
        if flight.attempt is not None:
            journal.enter(EventKind.WARNED, flight.attempt, rule=mismatch.rule, detail=mismatch.what)

    async def auth_request(request: Request, request_id: str) -> Response:
        flight = Flight(request_id, request.headers.get(ADDRESS_HEADER, "?"), time.monotonic())
        try:
            verdict = _bound(await _admit(request, flight, admissions, egress, policy, warned), flight, policy)
        except Refused as refusal:
            outcomes.counts[refusal.reason.label] += 1
            told = narrator.refused(flight, refusal)
            if not told and refusal.reason is RefusalReason.RATE_LIMITED:
                return _refusal(refusal, flight.request_id)  # a flood is bounded nowhere else
            _enter(journal, flight, refusal.reason, refusal.detail, refusal.rule)
            return _refusal(refusal, flight.request_id)
        label = (
            verdict.reason.label if verdict.reason else "admitted" if verdict.answer.status == 200 else "mender_answer"
        )
        outcomes.counts[label] += 1
        narrator.answered(flight, verdict)
        if verdict.answer.status != 200:  # admission enters what it admits, before anybody else's flight
            _enter(journal, flight, verdict.reason, verdict.detail)
        return _passed_on(verdict.answer)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = _request_id(request)
        if (request.method, scope["path"]) != ("POST", AUTH_PATH):
            response: Response = JSONResponse({"error": "not found", "request_id": request_id}, 404)
        else:
            try:
                response = await auth_request(request, request_id)
            except Exception as error:
                # A fault of ours: fail closed, and say so where somebody reads it.
                _log.error("an auth request met a fault in the edge", request_id=request_id, exc_info=error)
                outcomes.counts["internal_error"] += 1
                response = JSONResponse({"error": "internal error", "request_id": request_id}, 500)
        await response(scope, receive, send)

    return app


async def _admit(
    request: Request,
    flight: Flight,
    admissions: Mapping[str, Admission],
    egress: Egress,
    policy: Policy,
    warned: Callable[[Flight, BindingMismatch], None],
) -> Verdict:
    policy.rates.require_address(flight.address)
    header = request.headers.get(CERTIFICATE_HEADER, "")
    certificate = flight.certificate = read_certificate(header)
    policy.rates.require_certificate(certificate.fingerprint)
    require_device(
        certificate,
        server_keys=policy.server_keys,
        ca_keys=policy.ca_keys,
        now=dt.datetime.now(dt.UTC),
    )
    flight.anchor = policy.anchors.for_certificate(certificate, request.headers.get(CHAIN_HEADER, header)).name
    auth_request = flight.request = parse_auth_request(
        await _body(request),
        signatures=request.headers.getlist("x-men-signature"),
        content_types=request.headers.getlist("content-type"),
        certificate_key=certificate.public_key if policy.require_same_key else None,
    )
    claim = Claim(
        auth_request.identity.normal_form,
        certificate.record(flight.anchor),
        hashlib.sha256(auth_request.public_key).hexdigest(),
    )
    flight.attempt = Attempt(flight.request_id, flight.address, claim)
    binding = policy.bindings[flight.anchor]
    if binding.mode is not BindingMode.OFF:
        try:
            binding.policy.verify(certificate, auth_request.identity)
        except BindingMismatch as mismatch:
            if binding.mode is BindingMode.REFUSE:
                raise Refused(RefusalReason.IDENTITY_MISMATCH, mismatch.what, rule=mismatch.rule) from mismatch
            warned(flight, mismatch)
    headers = forwarded_headers(request.headers.raw)
    headers[REQUEST_ID_HEADER] = flight.request_id

    async def forward() -> Answer:
        flight.mender_status = None
        answer = await egress.request(
            "POST", AUTH_PATH, headers=headers, body=auth_request.body, within=_FORWARD_TIMEOUT
        )
        flight.mender_status = answer.status
        return answer

    return await admissions[flight.anchor].admit(auth_request, flight.attempt, forward)


def _enter(
    journal: Journal, flight: Flight, reason: RefusalReason | None, detail: str, rule: str | None = None
) -> None:
    """Have a request remembered that was not admitted."""
    claim = flight.attempt.claim if flight.attempt else None
    journal.note(
        Event(
            journal.now(),
            EventKind.REFUSED if reason else EventKind.ANSWERED,
            flight.request_id,
            flight.address,
            claim.identity if claim else None,
            flight.certificate.record(flight.anchor) if flight.certificate else None,
            claim.auth_key if claim else None,
            reason.label if reason else None,
            detail,
            mender_status=flight.mender_status,
            rule=rule,
        )
    )


def _bound(verdict: Verdict, flight: Flight, policy: Policy) -> Verdict:
    """The verdict with a token in it that is good with this certificate only."""
    if policy.token_key is None or verdict.answer.status != 200 or flight.certificate is None:
        return verdict
    try:
        token = bind(verdict.answer.body, flight.certificate.fingerprint, policy.token_key)
    except NotBindableError as error:
        raise Refused(RefusalReason.TOKEN_NOT_BINDABLE, error.what) from error
    return replace(verdict, answer=replace(verdict.answer, body=token))


def forwarded_headers(raw: list[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    """The request's headers that go on to Mender: all but hop-by-hop ones, ours, and what is not ASCII."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in raw:
        text = name.decode("latin-1")
        ours = text.lower().startswith(("x-edge-", "x-envoy-"))
        if value.isascii() and text.lower() not in _HOP_BY_HOP and not ours:
            headers.add(text, value.decode("ascii"))
    return headers


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_AUTH_BODY:
            raise Refused(RefusalReason.BODY_TOO_LARGE)
    return bytes(body)


def _request_id(request: Request) -> str:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _refusal(refusal: Refused, request_id: str) -> Response:
    wording = refusal.reason.value
    headers = {REQUEST_ID_HEADER: request_id}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after))
    content = {"error": wording.public, "reason": wording.label, "request_id": request_id}
    return JSONResponse(content, wording.status or 403, headers, media_type="application/json; charset=utf-8")


def _passed_on(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [
        # aiohttp reads headers as UTF-8, keeping odd bytes as surrogates: so they come out as they came in.
        (name.lower().encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in answer.headers.items()
        if name.lower() not in _HOP_BY_HOP
    ]
    response.raw_headers.append((b"content-length", str(len(answer.body)).encode()))
    return response

"""What is asked of Mender for an auth request, in which order, and what the device gets of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_ambassador.admission.admit import Admission, Shared, Verdict
from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.contests import Contests
from mtls_ambassador.admission.decision import Accept
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.flights import Flights
from mtls_ambassador.admission.identity import parse_identity
from mtls_ambassador.admission.journal import Attempt, Journal
from mtls_ambassador.admission.memory import AdmittedLately
from mtls_ambassador.admission.request import AuthRequest
from mtls_ambassador.admission.standing import Rotation, Terms
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Certificate, Claim, Event, EventKind, Facts, Holder
from mtls_ambassador.mender.egress import Answer
from mtls_ambassador.mender.errors import (
    DeviceLimitReached,
    ManagementForbidden,
    ManagementUnavailable,
    StateChanged,
    UpstreamUnavailable,
)
from mtls_ambassador.mender.management import Acceptance, AuthSet, AuthSetStatus, Management, MenderDevice
from mtls_ambassador.mender.session import PersonalAccessToken
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import spki
from tests.unit.mender.scripted_egress import Clock, ScriptedEgress, answer

KEY = ed25519.Ed25519PrivateKey.generate().public_key()
OTHER_KEY = ed25519.Ed25519PrivateKey.generate().public_key()
FOREVER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
CERTIFICATE = PeerCertificate(
    "ab" * 32, spki(KEY), "CN=dev-1", "CN=My CA", "01", is_ca=False, not_before=LONG_AGO, not_after=FOREVER
)
NOTHING, DEFAULT = Facts(), Terms()
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
UNAVAILABLE = ManagementUnavailable("it is down", label="error", retry_after=12)
FORBIDDEN = ManagementForbidden("the role does not allow it")
UNREACHABLE = UpstreamUnavailable("Mender cannot be reached")


def pem(key: ed25519.Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def request(mac: str = "a", key: ed25519.Ed25519PublicKey = KEY) -> AuthRequest:
    return AuthRequest(parse_identity(f'{{"mac":"{mac}"}}'), spki(key), pem(key), b"body")


def device(own: str | None, *others: str, gone: bool = False) -> MenderDevice:
    sets = [AuthSet("ours", pem(KEY), AuthSetStatus(own), None)] if own else []
    sets += [
        AuthSet(f"other-{number}", pem(OTHER_KEY), AuthSetStatus(status), None) for number, status in enumerate(others)
    ]
    return MenderDevice("d-1", gone, tuple(sets))


class Scene(Management):
    """A management API that answers from a script, and Mender's answers to forwarded requests.

    Args:
        forwarded: Status of each answer in turn, or an error.
        known: What preauthorising says: None (201), the id (409), or an error.
        found: What reading the device says.
        accepted: What accepting the set says.
        facts: What the ledger says.
        terms: The owner's.
    """

    def __init__(
        self,
        forwarded: Sequence[int | Exception],
        *,
        known: str | Exception | None = None,
        found: MenderDevice | Exception | None = None,
        accepted: Exception | None = None,
        facts: Facts | Exception = NOTHING,
        terms: Terms = DEFAULT,
    ) -> None:
        super().__init__(ScriptedEgress(), PersonalAccessToken("t"))
        self.clock = Clock()
        self.memory = AdmittedLately(10, 60, self.clock)
        self.facts_known = facts
        self.events: list[Event] = []
        shared = Shared(self.memory, Flights(), Contests(self.clock), self, Journal([self.events.append], lambda: NOW))
        self.admission = Admission(self, terms, shared, self.clock, lambda: NOW)
        self.forwarded = list(forwarded)
        self.known, self.found, self.accepted = known, found, accepted
        self.steps: list[str] = []
        self.token = b"a token"

    async def preauthorise(self, identity: Mapping[str, Any], public_key_pem: str, request_id: str) -> str | None:
        assert (set(identity), request_id) == ({"mac"}, "r")
        assert public_key_pem in (pem(KEY), pem(OTHER_KEY))
        self.steps.append("preauthorise")
        if isinstance(self.known, Exception):
            raise self.known
        return self.known

    @property
    def told(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    async def facts(self, claim: Claim) -> Facts:
        if isinstance(self.facts_known, Exception):
            raise self.facts_known
        return self.facts_known

    async def accept_where(
        self, device_id: str, choose: Callable[[MenderDevice | None], Acceptance | None], request_id: str
    ) -> bool:
        assert (device_id, request_id) == ("d-1", "r")
        self.steps.append("read")
        if isinstance(self.found, Exception):
            raise self.found
        chosen = choose(self.found)
        if chosen is None:
            return False
        assert isinstance(chosen, Accept)
        assert chosen.auth_set_id == "ours"
        self.steps.append("accept")
        if self.accepted:
            raise self.accepted
        return True

    async def forward(self) -> Answer:
        self.steps.append("forward")
        result = self.forwarded.pop(0)
        if isinstance(result, Exception):
            raise result
        return answer(result, self.token if result == 200 else f"answer {result}")

    async def admit(
        self,
        asked: AuthRequest | None = None,
        certificate: PeerCertificate = CERTIFICATE,
        address: str = "192.0.2.1:4711",
    ) -> Verdict:
        asked = asked or request()
        key = hashlib.sha256(asked.public_key).hexdigest()
        claim = Claim(asked.identity.normal_form, certificate.record("default"), key)
        return await self.admission.admit(asked, Attempt("r", address, claim), self.forward)

    async def refusal(self) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.admit()
        return caught.value


async def test_unknown_device() -> None:
    scene = Scene([200])
    assert (await scene.admit()).answer.status == 200
    assert scene.steps == ["preauthorise", "forward"]


async def test_known_device() -> None:
    scene = Scene([200], known="d-1")
    verdict = await scene.admit()
    assert verdict == Verdict(verdict.answer)
    assert scene.steps == ["preauthorise", "forward"]


async def test_device_admitted_lately() -> None:
    scene = Scene([200, 200, 200])
    assert [(await scene.admit()).known for _ in range(3)] == [False, True, True]
    assert scene.steps == ["preauthorise", *["forward"] * 3]


async def test_one_admitted_lately_is_entered_again_when_he_comes_from_elsewhere() -> None:
    """A copied key and certificate must leave a trace; a device that asks again from where it was is no news."""
    scene = Scene([200] * 6)
    here, there = ("192.0.2.1:4711", "192.0.2.1:4712"), ("[2001:db8::1]:4711", "[2001:db8::1]:4712")
    for address in (*here, *there, *here):
        await scene.admit(address=address)
    admitted = [event for event in scene.events if event.kind is EventKind.ADMITTED]
    assert [(event.address, event.detail) for event in admitted] == [
        (here[0], ""),
        (there[0], "from 192.0.2.1 before"),
        (here[0], "from 2001:db8::/64 before"),
    ]
    assert {(event.rule, event.mender_status) for event in admitted[1:]} == {("admitted within the last hour", 200)}
    assert scene.steps == ["preauthorise", *["forward"] * 6], "nothing is asked for it"


async def test_one_who_comes_from_elsewhere_is_remembered_no_longer_for_it() -> None:
    scene = Scene([200, 200, 200])
    await scene.admit()
    scene.clock.now += 59
    await scene.admit(address="192.0.2.2:4711")
    scene.clock.now += 1
    await scene.admit(address="192.0.2.2:4711")
    assert scene.steps == ["preauthorise", "forward", "forward", "preauthorise", "forward"]


async def test_memory_ends() -> None:
    scene = Scene([200, 200])
    await scene.admit()
    scene.clock.now += 60
    await scene.admit()
    assert scene.steps == ["preauthorise", "forward"] * 2


async def test_memory_is_of_identity_key_and_certificate_together() -> None:
    scene = Scene([200] * 4)
    await scene.admit()
    other = replace(CERTIFICATE, fingerprint="cd" * 32)
    await scene.admit(request("b"))
    await scene.admit(request("a", OTHER_KEY))
    await scene.admit(certificate=other)
    assert scene.steps.count("preauthorise") == 4


async def test_pending_device_is_accepted_and_remembered() -> None:
    scene = Scene([401, 200, 200], known="d-1", found=device("pending"))
    assert (await scene.admit()).answer.status == 200
    await scene.admit()
    assert scene.steps == ["preauthorise", "forward", "read", "accept", "forward", "forward"]


async def test_accepted_and_yet_refused() -> None:
    scene = Scene([401, 401], known="d-1", found=device("pending"))
    verdict = await scene.admit()
    assert verdict.reason is RefusalReason.MENDER_REFUSED
    assert verdict.answer.body == b'"answer 401"'
    assert scene.steps == ["preauthorise", "forward", "read", "accept", "forward"], "once, and never again"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (device("rejected"), RefusalReason.REJECTED_BY_OPERATOR),
        (device("pending", "rejected"), RefusalReason.REJECTED_BY_OPERATOR),
        (device("pending", "accepted"), RefusalReason.KEY_CHANGE_NEEDS_APPROVAL),
        (device("rejected", "accepted"), RefusalReason.KEY_SUPERSEDED),
    ],
)
async def test_refusals_of_our_own(found: MenderDevice, reason: RefusalReason) -> None:
    scene = Scene([401, 401], known="d-1", found=found)
    for _ in range(2):
        assert (await scene.refusal()).reason is reason
    assert scene.steps == ["preauthorise", "forward", "read"] * 2


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (device("accepted", gone=True), RefusalReason.DECOMMISSIONING),
        (device("preauthorized"), RefusalReason.DEVICE_LIMIT),
        (device("accepted"), RefusalReason.MENDER_REFUSED),
        (None, RefusalReason.MENDER_REFUSED),
    ],
)
async def test_refusals_of_mender_with_our_reason(found: MenderDevice | None, reason: RefusalReason) -> None:
    scene = Scene([401], known="d-1", found=found)
    verdict = await scene.admit()
    assert verdict.reason is reason
    assert verdict.answer.body == b'"answer 401"'
    assert scene.steps == ["preauthorise", "forward", "read"]


async def test_fresh_device_over_the_limit() -> None:
    scene = Scene([401])
    verdict = await scene.admit()
    assert verdict.reason is RefusalReason.DEVICE_LIMIT
    assert verdict.answer.status == 401
    assert scene.steps == ["preauthorise", "forward"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(DeviceLimitReached("full"), RefusalReason.DEVICE_LIMIT), (StateChanged("gone"), RefusalReason.MENDER_REFUSED)],
)
async def test_accepting_fails(error: Exception, reason: RefusalReason) -> None:
    scene = Scene([401], known="d-1", found=device("pending"), accepted=error)
    verdict = await scene.admit()
    assert verdict.reason is reason
    assert verdict.answer.status == 401
    assert scene.steps == ["preauthorise", "forward", "read", "accept"]


async def test_management_is_down_for_a_device_that_mender_accepts() -> None:
    scene = Scene([200, 200, 401, 401], known=UNAVAILABLE)
    assert (await scene.admit()).reason is None
    assert (await scene.admit()).reason is None
    assert (await scene.refusal()).reason is RefusalReason.MANAGEMENT_UNAVAILABLE, "and now it does not any more"
    assert scene.steps == ["preauthorise", "forward", "forward", "forward", "preauthorise", "forward"]


async def test_management_is_down_for_an_unknown_device() -> None:
    scene = Scene([401], known=UNAVAILABLE)
    refusal = await scene.refusal()
    assert refusal.reason is RefusalReason.MANAGEMENT_UNAVAILABLE
    assert refusal.retry_after == 12
    assert refusal.detail == "it is down"
    assert scene.steps == ["preauthorise", "forward"]


@pytest.mark.parametrize(
    ("said", "told"), [(0.0, 1.0), (0.2, 1.0), (12, 12), (300, 300), (86400, 300), (float("inf"), 300)]
)
async def test_the_device_is_told_a_sensible_time(said: float, told: float) -> None:
    scene = Scene([401], known=ManagementUnavailable("it is down", label="error", retry_after=said))
    assert (await scene.refusal()).retry_after == told


@pytest.mark.parametrize(
    ("found", "accepted"), [(UNAVAILABLE, None), (device("pending"), UNAVAILABLE)], ids=["read", "accept"]
)
async def test_management_goes_down_in_between(found: MenderDevice | Exception, accepted: Exception | None) -> None:
    scene = Scene([401], known="d-1", found=found, accepted=accepted)
    assert (await scene.refusal()).reason is RefusalReason.MANAGEMENT_UNAVAILABLE


@pytest.mark.parametrize(
    ("known", "found", "accepted"),
    [(FORBIDDEN, None, None), ("d-1", FORBIDDEN, None), ("d-1", device("pending"), FORBIDDEN)],
    ids=["preauthorise", "read", "accept"],
)
async def test_role_is_too_narrow(
    known: str | Exception, found: MenderDevice | Exception | None, accepted: Exception | None
) -> None:
    verdict = await Scene([401], known=known, found=found, accepted=accepted).admit()
    assert verdict.reason is RefusalReason.MANAGEMENT_ROLE_TOO_NARROW
    assert verdict.answer.body == b'"answer 401"'


async def test_narrow_role_does_not_keep_known_devices_out() -> None:
    assert (await Scene([200], known=FORBIDDEN).admit()).reason is None


@pytest.mark.parametrize(
    "scene",
    [
        Scene([UNREACHABLE]),
        Scene([UNREACHABLE], known="d-1"),
        Scene([UNREACHABLE], known=UNAVAILABLE),
        Scene([UNREACHABLE], known=FORBIDDEN),
        Scene([401, UNREACHABLE], known="d-1", found=device("pending")),
    ],
    ids=["fresh", "known", "management down", "narrow role", "after accepting"],
)
async def test_mender_is_unreachable(scene: Scene) -> None:
    refusal = await scene.refusal()
    assert refusal.reason is RefusalReason.UPSTREAM_UNAVAILABLE
    assert refusal.retry_after == 30


@pytest.mark.parametrize("status", [400, 402, 404, 413, 429, 500, 503, 201, 302])
async def test_any_other_answer_passes_and_is_the_end_of_memory(status: int) -> None:
    scene = Scene([200, status, 200], known="d-1")
    await scene.admit()
    verdict = await scene.admit()
    assert verdict.answer.status == status
    assert verdict.reason is None
    await scene.admit()
    assert scene.steps == ["preauthorise", "forward", "forward", "preauthorise", "forward"]


async def test_401_for_one_admitted_lately_leads_through_the_table_once() -> None:
    scene = Scene([200, 401, 401], known="d-1", found=device("rejected"))
    await scene.admit()
    assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR
    assert scene.steps == ["preauthorise", "forward", "forward", "preauthorise", "forward", "read"]
    assert len(scene.memory) == 0


async def test_removed_device_admitted_lately_comes_back() -> None:
    scene = Scene([200, 401, 200])
    await scene.admit()
    assert (await scene.admit()).answer.status == 200
    assert scene.steps == ["preauthorise", "forward", "forward", "preauthorise", "forward"]


async def test_only_200_is_remembered() -> None:
    for status in (201, 204, 302, 400, 401, 500):
        scene = Scene([status], known="d-1", found=device("accepted"))
        await scene.admit()
        assert len(scene.memory) == 0


async def test_one_after_the_other() -> None:
    scene = Scene([200, 200])
    await asyncio.gather(scene.admit(), scene.admit())
    assert scene.steps[:2] == ["preauthorise", "forward"]
    assert scene.steps.count("forward") == 2


async def test_a_certificate_has_its_share_of_the_management_api() -> None:
    """Ten tries, and one more every quarter of a minute."""
    scene = Scene([401] * 11, known="d-1", found=device("rejected"))
    for _ in range(10):
        assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR
    scene.steps.clear()
    for _ in range(2):
        refusal = await scene.refusal()
        assert refusal.reason is RefusalReason.BUSY
        assert refusal.retry_after == 30
    assert scene.steps == [], "nor is anything left pending in Mender"
    scene.clock.now += 15
    assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR


async def test_whom_the_ledger_knows_gets_in_without_a_share() -> None:
    scene = Scene([*[401] * 10, 200, 200], known="d-1", found=device("rejected"))
    for _ in range(10):
        await scene.refusal()
    scene.facts_known = held_by(MINE, known=True)
    for _ in range(2):
        assert (await scene.admit()).answer.status == 200
    assert scene.steps[-2:] == ["forward", "forward"]


async def test_one_certificate_s_share_is_not_anothers() -> None:
    scene = Scene([401] * 20, known="d-1", found=device("rejected"))
    for number in range(20):
        with pytest.raises(Refused) as caught:
            await scene.admit(certificate=replace(CERTIFICATE, public_key=bytes([number % 2])))
        assert caught.value.reason is RefusalReason.REJECTED_BY_OPERATOR


async def test_devices_admitted_lately_use_up_nothing() -> None:
    scene = Scene([200] * 50 + [401])
    for _ in range(50):
        assert (await scene.admit()).answer.status == 200
    scene.known, scene.found = "d-1", device("rejected")
    scene.forwarded.append(401)
    assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR


MINE = CERTIFICATE.record("default")
THEIRS = replace(MINE, fingerprint="ee" * 32, key="ff" * 32, subject="CN=dev-2", serial="02")
BEFORE = replace(THEIRS, subject=MINE.subject, not_before=LONG_AGO - dt.timedelta(days=1))
NEEDS_APPROVAL = RefusalReason.KEY_CHANGE_NEEDS_APPROVAL


def held_by(certificate: Certificate, mender_id: str | None = "d-1", **more: Any) -> Facts:
    return Facts(holder=Holder(certificate, mender_id, NOW), **more)


async def test_known_to_the_ledger_costs_no_management_call() -> None:
    scene = Scene([200], facts=held_by(MINE, known=True))
    await scene.admit()
    assert scene.steps == ["forward"]
    assert scene.told == [EventKind.ADMITTED]


async def test_known_to_the_ledger_but_not_to_mender_any_more() -> None:
    scene = Scene([401, 200], facts=held_by(MINE, known=True))
    await scene.admit()
    assert scene.steps == ["forward", "preauthorise", "forward"]


async def test_a_readmission_is_told() -> None:
    scene = Scene([401, 200], facts=held_by(MINE, "former", known=True))
    scene.token = b"e30.eyJzdWIiOiJkLTEifQ.x"  # {"sub":"d-1"}
    await scene.admit()
    assert scene.told == [EventKind.PREAUTHORISED, EventKind.READMITTED, EventKind.ADMITTED]
    assert [event.mender_id for event in scene.events] == [None, "d-1", "d-1"]


@pytest.mark.parametrize("facts", [Facts(), Facts(holder=None)])
async def test_whatever_mender_answers_to_a_preauthorised_key_the_certificate_has_claimed_it(facts: Facts) -> None:
    """Else it could claim one identity after the other, and keep their owners out."""
    for status in (400, 401, 500):
        scene = Scene([status], facts=facts)
        await scene.admit()
        assert scene.told == [EventKind.PREAUTHORISED]


async def test_a_token_of_another_tenant_says_nothing_about_ours() -> None:
    """There the device's owner accepts any key for any identity."""
    scene = Scene([200], facts=held_by(THEIRS))
    scene.tenant = "ours"
    scene.token = b"e30.eyJtZW5kZXIudGVuYW50IjoidGhlaXJzIn0.x"  # {"mender.tenant":"theirs"}
    assert (await scene.refusal()).reason is RefusalReason.WRONG_TENANT
    assert scene.told == []
    assert len(scene.memory) == 0


@pytest.mark.parametrize(("facts", "admitted"), [(held_by(MINE, known=True), True), (held_by(THEIRS), False)])
async def test_while_our_tenant_is_not_known_only_ones_own_identity_is_had(*, facts: Facts, admitted: bool) -> None:
    scene = Scene([200], facts=facts)
    scene.token = b"e30.eyJtZW5kZXIudGVuYW50IjoidGhlaXJzIn0.x"
    if admitted:
        assert (await scene.admit()).answer.status == 200
    else:
        assert (await scene.refusal()).reason is RefusalReason.MANAGEMENT_UNAVAILABLE
        assert scene.told == []


async def test_an_operators_decision_is_not_undone_by_who_had_the_identity_before() -> None:
    """He dismissed our key and trusts another: ours is pending again, and stays so."""
    scene = Scene([401, 401], known="d-1", facts=held_by(MINE, known=True), found=device("pending", "accepted"))
    assert (await scene.refusal()).reason is NEEDS_APPROVAL
    assert "accept" not in scene.steps


async def test_a_certificate_of_another_identity_reaches_nobody() -> None:
    scene = Scene([], facts=Facts(other_identities=('{"mac":"z"}',)))
    refusal = await scene.refusal()
    assert refusal.reason is RefusalReason.CERTIFICATE_HAS_ANOTHER_IDENTITY
    assert '{"mac":"z"}' in refusal.detail
    assert scene.steps == []


async def test_a_certificate_may_have_several_identities_where_the_owner_says_so() -> None:
    scene = Scene([200], facts=Facts(other_identities=("z",)), terms=Terms(one_identity=False))
    await scene.admit()
    assert scene.steps == ["preauthorise", "forward"]


async def test_anothers_identity_is_never_preauthorised() -> None:
    scene = Scene([401], facts=held_by(THEIRS), found=device("pending", "accepted"))
    refusal = await scene.refusal()
    assert refusal.reason is NEEDS_APPROVAL
    assert "serial 02" in refusal.detail
    assert scene.steps == ["forward", "read"]


@pytest.mark.parametrize("found", [None, device("pending"), device("pending", "pending")])
async def test_anothers_identity_is_not_taken_when_mender_has_removed_it(found: MenderDevice | None) -> None:
    scene = Scene([401], facts=held_by(THEIRS), found=found)
    assert (await scene.refusal()).reason is NEEDS_APPROVAL
    assert scene.steps == ["forward", "read"]


async def test_anothers_identity_whose_mender_id_nobody_knows() -> None:
    scene = Scene([401], facts=held_by(THEIRS, None))
    assert (await scene.refusal()).reason is NEEDS_APPROVAL
    assert scene.steps == ["forward"]


async def test_an_operators_approval_counts_for_anothers_identity() -> None:
    scene = Scene([200], facts=held_by(THEIRS))
    await scene.admit()
    assert scene.steps == ["forward"]
    assert scene.told == [EventKind.ADMITTED]


async def test_rotation_to_a_later_certificate_of_the_same_subject() -> None:
    scene = Scene([401, 200], known="d-1", facts=held_by(BEFORE), found=device("pending", "accepted"))
    await scene.admit()
    assert scene.steps == ["preauthorise", "forward", "read", "accept", "forward"]
    assert scene.told == [EventKind.ROTATED, EventKind.ADMITTED]
    assert scene.events[0].rule == "rotation: same-subject"


async def test_the_key_before_is_superseded() -> None:
    scene = Scene([401, 401], known="d-1", facts=held_by(MINE, known=True), found=device("rejected", "accepted"))
    assert (await scene.refusal()).reason is RefusalReason.KEY_SUPERSEDED
    assert scene.told == []


async def test_adoption() -> None:
    adoption = Adoption('{"mac":"a"}', AdoptionKind.FINGERPRINT, MINE.fingerprint)
    scene = Scene([401, 200], known="d-1", facts=Facts(adoption=adoption), found=device("pending", "accepted"))
    await scene.admit()
    assert scene.told == [EventKind.ADOPTED, EventKind.ADMITTED]


async def test_adoption_by_the_first_to_come() -> None:
    terms = Terms(adopt_until=NOW + dt.timedelta(seconds=1))
    scene = Scene([401, 200], known="d-1", terms=terms, found=device("pending", "accepted"))
    await scene.admit()
    assert scene.told == [EventKind.ADOPTED, EventKind.ADMITTED]


async def test_a_replayed_auth_key_reaches_nobody() -> None:
    scene = Scene([], facts=Facts(auth_key_is_anothers=True))
    assert (await scene.refusal()).reason is NEEDS_APPROVAL
    assert scene.steps == []


class TestWithoutLedger:
    DOWN = LedgerUnavailable("the disk is full", "Make room.")

    async def test_whom_mender_accepts_gets_in(self) -> None:
        scene = Scene([200], facts=self.DOWN)
        await scene.admit()
        assert scene.steps == ["forward"]

    async def test_whoever_was_admitted_lately_is_not_even_asked_about(self) -> None:
        scene = Scene([200, 200])
        await scene.admit()
        scene.facts_known = self.DOWN
        await scene.admit()
        assert scene.steps == ["preauthorise", "forward", "forward"]

    async def test_nobody_else(self) -> None:
        scene = Scene([401], facts=self.DOWN)
        refusal = await scene.refusal()
        assert refusal.reason is RefusalReason.LEDGER_UNAVAILABLE
        assert refusal.reason.value.status == 503
        assert refusal.retry_after == 30
        assert scene.steps == ["forward"]

    async def test_a_key_that_is_not_the_certificates_tells_nothing(self) -> None:
        scene = Scene([], facts=self.DOWN)
        with pytest.raises(Refused) as caught:
            await scene.admit(request("a", OTHER_KEY))
        assert caught.value.reason is RefusalReason.LEDGER_UNAVAILABLE
        assert scene.steps == []


async def test_a_contested_identity_is_not_taken_over_and_its_holder_stays() -> None:
    scene = Scene([401] * 20, known="d-1", facts=held_by(BEFORE), found=device("pending", "rejected"))
    rival = replace(CERTIFICATE, public_key=spki(OTHER_KEY), fingerprint="cd" * 32)
    for _ in range(3):
        with pytest.raises(Refused):
            await scene.admit()
        with pytest.raises(Refused):
            await scene.admit(request("a", OTHER_KEY), rival)
    scene.steps.clear()
    scene.found = device("pending", "accepted")
    assert (await scene.refusal()).reason is RefusalReason.IDENTITY_CONTESTED
    assert scene.steps == ["forward", "read"]
    scene.found = device("rejected", "accepted")
    assert (await scene.refusal()).reason is RefusalReason.KEY_SUPERSEDED, "the better reason is still told"
    assert scene.told.count(EventKind.CONTESTED) == 1
    scene.facts_known, scene.forwarded = held_by(MINE, known=True), [200]
    await scene.admit()
    scene.clock.now += 600
    scene.found = device("pending", "accepted")
    scene.facts_known, scene.forwarded = held_by(BEFORE), [401, 200]
    scene.memory.drop(next(iter(scene.memory._admitted)))
    await scene.admit()
    assert scene.told[-2:] == [EventKind.ROTATED, EventKind.ADMITTED]


async def test_one_certificate_claims_one_thing_at_a_time() -> None:
    """Else it could claim two identities while it has none."""
    scene = Scene([200, 200])
    gate, waiting = asyncio.Event(), 0

    async def facts(claim: Claim) -> Facts:
        nonlocal waiting
        waiting += 1
        await gate.wait()
        return Facts()

    scene.facts = facts  # type: ignore[method-assign]
    both = asyncio.gather(scene.admit(request("a")), scene.admit(request("b")))
    for _ in range(20):
        await asyncio.sleep(0)
    assert waiting == 1
    gate.set()
    await both


@pytest.mark.parametrize("rotation", list(Rotation))
async def test_rejected_by_the_operator_whatever_the_terms(rotation: Rotation) -> None:
    for facts in (Facts(), held_by(MINE, known=True), held_by(THEIRS), held_by(BEFORE)):
        scene = Scene([401] * 2, known="d-1", facts=facts, terms=Terms(rotation), found=device("pending", "rejected"))
        assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR
        assert "accept" not in scene.steps

"""What is asked of Mender for an auth request, in which order, and what the device gets of it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_ambassador.admission.admit import Admission, Verdict
from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.flights import Flights
from mtls_ambassador.admission.identity import parse_identity
from mtls_ambassador.admission.memory import AdmittedLately
from mtls_ambassador.admission.request import AuthRequest
from mtls_ambassador.mender.egress import Answer
from mtls_ambassador.mender.errors import (
    DeviceLimitReached,
    ManagementForbidden,
    ManagementUnavailable,
    StateChanged,
    UpstreamUnavailable,
)
from mtls_ambassador.mender.management import AuthSet, AuthSetStatus, Management, MenderDevice
from mtls_ambassador.mender.session import PersonalAccessToken
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import spki
from tests.unit.mender.scripted_egress import Clock, ScriptedEgress, answer

KEY = ed25519.Ed25519PrivateKey.generate().public_key()
OTHER_KEY = ed25519.Ed25519PrivateKey.generate().public_key()
LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
FOREVER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
CERTIFICATE = PeerCertificate(
    "ab" * 32, spki(KEY), "CN=dev-1", "CN=My CA", "01", is_ca=False, not_before=LONG_AGO, not_after=FOREVER
)
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
    """

    def __init__(
        self,
        forwarded: Sequence[int | Exception],
        *,
        known: str | Exception | None = None,
        found: MenderDevice | Exception | None = None,
        accepted: Exception | None = None,
    ) -> None:
        super().__init__(ScriptedEgress(), PersonalAccessToken("t"))
        self.clock = Clock()
        self.memory = AdmittedLately(10, 60, self.clock)
        self.admission = Admission(self, self.memory, Flights(), self.clock)
        self.forwarded = list(forwarded)
        self.known, self.found, self.accepted = known, found, accepted
        self.steps: list[str] = []

    async def preauthorise(self, identity: Mapping[str, Any], public_key_pem: str, request_id: str) -> str | None:
        assert (set(identity), request_id) == ({"mac"}, "r")
        assert public_key_pem in (pem(KEY), pem(OTHER_KEY))
        self.steps.append("preauthorise")
        if isinstance(self.known, Exception):
            raise self.known
        return self.known

    async def accept_where(
        self, device_id: str, choose: Callable[[MenderDevice | None], str | None], request_id: str
    ) -> bool:
        assert (device_id, request_id) == ("d-1", "r")
        self.steps.append("read")
        if isinstance(self.found, Exception):
            raise self.found
        chosen = choose(self.found)
        if chosen is None:
            return False
        assert chosen == "ours"
        self.steps.append("accept")
        if self.accepted:
            raise self.accepted
        return True

    async def forward(self) -> Answer:
        self.steps.append("forward")
        result = self.forwarded.pop(0)
        if isinstance(result, Exception):
            raise result
        return answer(result, f"answer {result}")

    async def admit(self, asked: AuthRequest | None = None, certificate: PeerCertificate = CERTIFICATE) -> Verdict:
        return await self.admission.admit(asked or request(), certificate, self.forward, "r")

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
    scene = Scene([401] * 13, known="d-1", found=device("rejected"))
    for _ in range(10):
        assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR
    scene.steps.clear()
    for _ in range(2):
        refusal = await scene.refusal()
        assert refusal.reason is RefusalReason.BUSY
        assert refusal.retry_after == 30
    assert scene.steps == ["forward", "forward"]
    scene.clock.now += 15
    assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR


async def test_whom_mender_accepts_gets_in_without_a_share() -> None:
    scene = Scene([*[401] * 10, 200, 200], known="d-1", found=device("rejected"))
    for _ in range(10):
        await scene.refusal()
    for _ in range(2):
        assert (await scene.admit()).answer.status == 200
    assert scene.steps[-2:] == ["forward", "forward"]


async def test_one_certificate_s_share_is_not_anothers() -> None:
    scene = Scene([401] * 20, known="d-1", found=device("rejected"))
    for number in range(20):
        with pytest.raises(Refused) as caught:
            await scene.admit(certificate=replace(CERTIFICATE, fingerprint=f"{number % 2:064x}"))
        assert caught.value.reason is RefusalReason.REJECTED_BY_OPERATOR


async def test_devices_admitted_lately_use_up_nothing() -> None:
    scene = Scene([200] * 50 + [401])
    for _ in range(50):
        assert (await scene.admit()).answer.status == 200
    scene.known, scene.found = "d-1", device("rejected")
    scene.forwarded.append(401)
    assert (await scene.refusal()).reason is RefusalReason.REJECTED_BY_OPERATOR

"""Device A, with a valid certificate, claims device B's identity: three times in a row, then by turns with B."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_ambassador.admission.standing import Rotation
from mtls_ambassador.ledger.records import EventKind
from mtls_ambassador.refusals import RefusalReason
from tests.certificates import Holder
from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice, Reply
from tests.takeover import (
    SETTINGS,
    AtMender,
    Attacker,
    Binding,
    Case,
    Setting,
    cases,
    expected,
    somebody_has_it,
)
from tests.world import World, world

NOW = dt.datetime.now(dt.UTC)
ISSUED = NOW - dt.timedelta(days=10)
DAY = dt.timedelta(days=1)
NAMELESS = x509.Name([])
RULE = [{"certificate": "san.dns", "template": "{mac}.devices.example.com"}]
_NUMBERS = itertools.count(1)


def _named(setting: Setting) -> str:
    return f"binding {setting.binding}, rotation {setting.rotation}{', adopt_until' if setting.adopts else ''}"


def _options(setting: Setting) -> dict[str, Any]:
    """The edge's settings; none at all for the default."""
    options: dict[str, Any] = {}
    if setting.rotation is not Rotation.SAME_SUBJECT:
        options["rotation"] = setting.rotation.value
    if setting.binding is not Binding.OFF:
        options["binding"] = {"mode": setting.binding.value, "rules": RULE}
    if setting.adopts:
        options["adopt_until"] = f"{NOW + DAY:%Y-%m-%d}"
    return options


@dataclass
class Scene:
    """One case: B as Mender and the ledger know it, and A."""

    b: RawDevice
    a: RawDevice
    token: str | None
    """B's token, if it has one."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("setting", SETTINGS, ids=_named)
async def test_every_case(tmp_path: Path, setting: Setting) -> None:
    lab = OperatedLab()
    async with world(tmp_path, lab=lab, **_options(setting)) as w:
        await share_a_subject(w)
        for case in cases(setting):
            scene = await prepare(w, lab, case)
            before = lab.statuses(scene.b.identity)
            reason = expected(case)
            for _ in range(3):
                assert outcome(await scene.a.authenticate()) is reason, case
            if reason is not None:
                await b_lost_nothing(lab, scene, before, case)
            await by_turns(scene, case)
        assert (w.edge.outcomes.counts["internal_error"]) == 0


def outcome(reply: Reply) -> RefusalReason | None:
    """Why a device was refused; None if it was not."""
    if reply.status == 200:
        return None
    (reason,) = [reason for reason in RefusalReason if reason.label == reply.json["reason"]]
    return reason


async def share_a_subject(w: World) -> None:
    """Let two devices of one subject be admitted, so that the ledger knows it for a shared one."""
    for _ in range(2):
        name = _identity_name()
        device = RawDevice(w, {"mac": name}, holder=_holder(w, name, "the whole fleet"))
        assert (await device.authenticate()).status == 200


async def prepare(w: World, lab: OperatedLab, case: Case) -> Scene:
    """Make B what it is, and A."""
    name = _identity_name()
    subject: str | x509.Name = name
    if case.attacker is Attacker.NAMELESS:
        subject = NAMELESS
    elif case.attacker is Attacker.OF_A_SHARED_SUBJECT:
        subject = "the whole fleet"
    b = RawDevice(w, {"mac": name}, holder=_holder(w, name, subject))
    token = None
    if case.in_ledger:
        token = (await b.authenticate()).token
    if case.in_ledger and case.at_mender in (AtMender.UNKNOWN, AtMender.PREAUTHORIZED):
        lab.remove(b.identity)
        lab.finish_removals()
        token = None
    if case.at_mender is AtMender.PREAUTHORIZED:
        lab.preauthorise(b.identity, b.holder)
    elif case.at_mender is not AtMender.UNKNOWN:
        lab.knock(b.identity, b.holder)
        lab.decide(b.identity, b.holder, case.at_mender.name.lower())
        token = token if case.at_mender is AtMender.ACCEPTED else None
    return Scene(b, await attacker(w, case, b, subject), token)


async def attacker(w: World, case: Case, b: RawDevice, subject: str | x509.Name) -> RawDevice:
    """A, whose certificate names another device wherever a binding rule looks."""
    own = _identity_name()
    shares = case.attacker not in (Attacker.FRESH, Attacker.WITH_ITS_OWN_IDENTITY)
    earlier = case.attacker is Attacker.SAME_SUBJECT_EARLIER
    holder = _holder(w, own, subject if shares else own, ISSUED - DAY if earlier else ISSUED + DAY)
    if case.attacker is Attacker.WITH_ITS_OWN_IDENTITY:
        assert (await RawDevice(w, {"mac": own}, holder=holder).authenticate()).status == 200
    return RawDevice(w, b.identity, holder=holder)


async def b_lost_nothing(lab: OperatedLab, scene: Scene, before: Mapping[str, str], case: Case) -> None:
    """What Mender knew of B it knows still, and its token is good."""
    after = lab.statuses(scene.b.identity)
    assert before.items() <= after.items(), case
    assert all(status in ("pending", "rejected") for key, status in after.items() if key not in before), case
    await still_works(scene.b, scene.token, case)


async def by_turns(scene: Scene, case: Case) -> None:
    """A and B by turns: nobody flaps. Whoever had it when they began has it in the end, and was never logged out."""
    await token_of(scene.b)  # what was B's and can be had again by right is had again now
    await token_of(scene.a)
    tokens = await token_of(scene.b), await token_of(scene.a)
    had_it = tuple(token is not None for token in tokens)
    for _ in range(3):
        await still_works(scene.b, tokens[0], case)
        after = await token_of(scene.a)
        # The token of before A's turn: Mender would take it again after the holder's next auth request.
        await still_works(scene.b, tokens[0], case)
        tokens = await token_of(scene.b), after
        await still_works(scene.a, tokens[1], case)
        assert tuple(token is not None for token in tokens) == had_it, case
    assert sum(had_it) <= 1, case
    successor = case.attacker is Attacker.SAME_SUBJECT_LATER and case.setting.rotation is Rotation.SAME_SUBJECT
    if expected(case) is not None and not (successor and case.setting.binding is not Binding.REFUSE):
        assert not had_it[1], case
        operator = case.at_mender is AtMender.REJECTED
        assert had_it[0] is not operator, case
    elif case.at_mender is not AtMender.REJECTED:
        assert sum(had_it) == 1, case
        if somebody_has_it(case) and case.setting.rotation is Rotation.SAME_SUBJECT:
            assert had_it == (False, True), case


async def token_of(device: RawDevice) -> str | None:
    """What it gets for an auth request; None if it is not admitted."""
    reply = await device.authenticate()
    assert reply.status in (200, 401, 429), reply
    return reply.token if reply.status == 200 else None


async def still_works(device: RawDevice, token: str | None, case: Case) -> None:
    if token is not None:
        assert await device.call(token) == 200, case


async def test_what_the_default_cannot_prevent_is_said_plainly(tmp_path: Path) -> None:
    """A fresh certificate gets an identity that nobody has claimed yet; its owner comes too late, and is told why."""
    async with world(tmp_path) as w:
        a, b = RawDevice(w), RawDevice(w)
        b.identity = a.identity
        assert (await a.authenticate()).status == 200
        assert (await b.authenticate()).refusal == (401, "key_change_needs_approval")
        assert await w.history(EventKind.REFUSED) == ["key_change_needs_approval"]


def _holder(w: World, name: str, subject: str | x509.Name, not_before: dt.datetime = ISSUED) -> Holder:
    full = subject if isinstance(subject, x509.Name) else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    return w.ca.device(name, subject=full, not_before=not_before, san=[f"DNS:{name}.devices.example.com"])


def _identity_name() -> str:
    return f"device-{next(_NUMBERS):05d}"

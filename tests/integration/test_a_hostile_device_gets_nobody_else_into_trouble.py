"""What a hostile device with valid certificates may try beyond a plain claim (test_takeover.py), and what it gets."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.certificates import CertificateAuthority, Holder
from tests.operated_lab import AUTH_REQUESTS, OperatedLab, RawAnswer, SeenRequest
from tests.raw_device import RawDevice, another_edge
from tests.world import PASSWORD, USER, World, eventually, world

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


async def test_a_certificate_that_has_used_up_its_tries_leaves_nothing_pending(tmp_path: Path) -> None:
    """Else it could claim one identity after the other, and each owner would come second."""
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        hostile = RawDevice(w, await admitted(w))
        for _ in range(10):
            await hostile.authenticate()
        victims = [RawDevice(w) for _ in range(3)]
        for victim in victims:
            hostile.identity = victim.identity
            assert (await hostile.authenticate()).refusal == (429, "busy")
            assert mender.known(victim.identity) is None
            assert (await victim.authenticate()).status == 200


@pytest.mark.parametrize("obstacle", ["device limit", "an answer that is no token"])
async def test_what_is_preauthorised_is_claimed_whatever_mender_answers(tmp_path: Path, obstacle: str) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        if obstacle == "device limit":
            mender.set_max_devices(0)
        else:
            mender.script = answer_auth_requests(RawAnswer(400, b"{}"))
        hostile, victim = RawDevice(w), RawDevice(w)
        assert (await hostile.authenticate()).status in (400, 401)
        hostile.identity = victim.identity
        assert (await hostile.authenticate()).refusal == (401, "certificate_has_another_identity")
        assert mender.known(victim.identity) is None


async def test_content_types_that_mender_may_refuse_are_refused_first(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        device = RawDevice(w)
        reply = await device.authenticate(headers="Content-Type: application/json; x\r\n")
        assert reply.status in (400, 415)
        assert mender.admission_calls() == []
        assert mender.count("POST", AUTH_REQUESTS) == 0


async def test_two_certificates_cannot_keep_a_third_from_its_identity(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        hostile = [RawDevice(w), RawDevice(w)]
        for device in hostile:
            await device.authenticate()
        newcomer = RawDevice(w)
        await claim_by_turns(hostile, newcomer.identity)
        assert (await newcomer.authenticate()).status == 200, "its first admission"

        device = RawDevice(w, holder=named(w.ca, "dev-1", NOW - 2 * DAY))
        await device.authenticate()
        fresh = [RawDevice(w), RawDevice(w)]
        await claim_by_turns([*hostile, *fresh], device.identity)
        successor = RawDevice(w, device.identity, holder=named(w.ca, "dev-1", NOW - DAY))
        assert (await successor.authenticate()).status == 200, "its rotation"


@pytest.mark.parametrize(
    "repair", ["dismisses a key and accepts another", "removes the device and preauthorises a key"]
)
async def test_an_operators_repair_is_not_undone_by_who_squatted_the_identity(tmp_path: Path, repair: str) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        squatter = RawDevice(w)
        owner = RawDevice(w, squatter.identity)
        await squatter.authenticate()
        if repair.startswith("dismisses"):
            await owner.authenticate()
            device = mender.known(owner.identity)
            assert device is not None
            (its,) = [item for item in device.auth_sets if item.pubkey == squatter.holder.public_key_pem.decode()]
            mender.dismiss(device.id, its.id)
            mender.decide(owner.identity, owner.holder, "accepted")
        else:
            mender.remove(owner.identity)
            mender.finish_removals()
            mender.preauthorise(owner.identity, owner.holder)
        assert (await squatter.authenticate()).refusal == (401, "key_change_needs_approval")
        assert (await owner.authenticate()).status == 200
        assert (await squatter.authenticate()).status == 401
        assert mender.status_of(owner.identity, owner.holder) == "accepted"
        squatter.identity = RawDevice(w).identity
        assert (await squatter.authenticate()).refusal == (401, "certificate_has_another_identity")


async def test_a_token_of_another_tenant_makes_nobody_the_holder(tmp_path: Path) -> None:
    """In his own tenant the owner of a device accepts any key for any identity."""
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        victim = RawDevice(w)
        token = (await victim.authenticate()).token
        hostile = RawDevice(w, victim.identity)
        theirs = RawAnswer(200, b"e30.eyJzdWIiOiJ4IiwibWVuZGVyLnRlbmFudCI6InRoZWlycyJ9.x")  # {"mender.tenant":"theirs"}
        mender.script = answer_auth_requests(theirs, containing=b'"their-token"')
        for _ in range(2):
            reply = await hostile.authenticate(body=hostile.body(tenant_token="their-token"))
            assert reply.refusal == (401, "wrong_tenant")
        assert (await hostile.authenticate()).status == 401
        assert await victim.call(token) == 200
        assert (await victim.authenticate()).status == 200


@pytest.mark.parametrize("way", ["an intermediate of the other CA's name", "rotation any"])
async def test_another_anchors_certificate_takes_nothing_over(tmp_path: Path, way: str) -> None:
    mender = OperatedLab()
    one, two = CertificateAuthority("Plant 1"), CertificateAuthority("Plant 2")
    async with world(tmp_path, ca=one, lab=mender) as w:
        (tmp_path / "one.pem").write_bytes(one.pem)
        (tmp_path / "two.pem").write_bytes(two.pem)
        (tmp_path / "pass").write_text(PASSWORD)
        user = {"mender_user": USER, "mender_pass_file": str(tmp_path / "pass")}
        anchors: list[dict[str, Any]] = [
            {"name": "plant-1", "ca": str(tmp_path / "one.pem"), **user},
            {"name": "plant-2", "ca": str(tmp_path / "two.pem"), **user},
        ]
        issuer = two.intermediate("Plant 1")
        if way == "rotation any":
            anchors[1]["rotation"] = "any"
            issuer = two
        async with another_edge(w, trust_anchors=anchors) as edge:
            victim = RawDevice(edge, holder=named(one, "dev-1", NOW - 2 * DAY))
            token = (await victim.authenticate()).token
            hostile = RawDevice(edge, victim.identity, holder=named(issuer, "dev-1", NOW - DAY))
            assert (await hostile.authenticate()).refusal == (401, "key_change_needs_approval")
            assert await victim.call(token) == 200


async def test_a_predecessors_thief_gets_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        identity = RawDevice(w).identity
        old, new, newest = (RawDevice(w, identity, holder=named(w.ca, "dev-1", NOW - days * DAY)) for days in (3, 2, 1))
        for device in (old, new):
            assert (await device.authenticate()).status == 200
        thief = RawDevice(w, holder=old.holder)
        assert (await thief.authenticate()).refusal == (401, "certificate_has_another_identity")
        assert (await newest.authenticate()).status == 200


async def test_an_identity_of_a_megabyte_stays_nowhere(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    async with world(tmp_path, audit_log=str(audit)) as w:
        device = RawDevice(w)
        await device.authenticate()
        for number in range(10):
            device.identity = {"x": f"{number}" + "&" * 9_000 + "\N{GRINNING FACE}"}
            assert (await device.authenticate()).refusal == (400, "malformed_request")
        await eventually(lambda: audit.exists() and len(audit.read_text().splitlines()) >= 11)
        lines = audit.read_text().splitlines()
        assert max(map(len, lines)) < 3_000
        assert {json.loads(line)["event"] for line in lines} >= {"admitted", "refused"}


def named(issuer: Any, name: str, not_before: dt.datetime) -> Holder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    holder: Holder = issuer.device(name, subject=subject, not_before=not_before)
    return holder


def answer_auth_requests(answer: RawAnswer, *, containing: bytes = b"") -> Any:
    async def script(request: SeenRequest) -> RawAnswer | None:
        return answer if request.path == AUTH_REQUESTS and containing in request.body else None

    return script


async def admitted(w: World) -> dict[str, Any]:
    """The identity of a device that is admitted."""
    device = RawDevice(w)
    assert (await device.authenticate()).status == 200
    return device.identity


async def claim_by_turns(devices: list[RawDevice], identity: dict[str, Any]) -> None:
    for device in devices:
        device.identity = identity
    for _ in range(4):
        for device in devices:
            assert (await device.authenticate()).status in (401, 429)

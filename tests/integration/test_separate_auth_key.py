"""The key of an auth request has to be the certificate's, unless `require_same_key` is off, as C++ clients may need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import KeyKind, new_key
from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice, another_edge
from tests.world import world


async def test_by_default_it_is_refused_with_the_remedy(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        device = RawDevice(w, auth_key=new_key("ed25519"))
        mender.seen.clear()
        reply = await device.authenticate()
        assert reply.refusal == (401, "key_mismatch")
        assert reply.json["error"] == "the key is not the certificate's"
        assert "Security.AuthPrivateKey" in reply.log
        assert "require_same_key" in reply.log
        assert mender.admission_calls() == []
        assert mender.devices() == []


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
async def test_it_is_allowed(tmp_path: Path, kind: KeyKind) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender, require_same_key=False) as w:
        key = new_key(kind)
        device = RawDevice(w, auth_key=key)
        for _ in range(2):
            assert await device.call((await device.authenticate(body=device.body(tier="standard"))).token) == 200
        assert mender.status_of(device.identity, device.holder) is None
        (status,) = mender.statuses(device.identity).values()
        assert status == "accepted"

        stranger = RawDevice(w, device.identity)
        assert (await stranger.authenticate()).refusal == (401, "key_change_needs_approval"), "all else holds"
        async with another_edge(w, require_same_key=True) as strict:
            assert (await device.authenticate(at=strict)).refusal == (401, "key_mismatch")


async def test_another_key_of_the_same_certificate_awaits_approval_too(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender, require_same_key=False) as w:
        device = RawDevice(w)
        await device.authenticate()
        other_key = RawDevice(w, device.identity, holder=device.holder, auth_key=new_key())
        assert (await other_key.authenticate()).refusal == (401, "key_change_needs_approval")
        assert (await device.authenticate()).status == 200
        other_identity = RawDevice(w, holder=device.holder)
        mender.seen.clear()
        assert (await other_identity.authenticate()).refusal[1] == "certificate_has_another_identity"
        assert mender.seen == []


async def test_a_known_auth_key_is_of_no_use_to_another_certificate(tmp_path: Path) -> None:
    """Whoever has seen an auth request can send it again, and Mender would say yes: it knows keys only."""
    async with world(tmp_path, lab=(mender := OperatedLab()), require_same_key=False) as w:
        device = RawDevice(w, auth_key=new_key())
        assert (await device.authenticate()).status == 200
        thief = RawDevice(w, device.identity, auth_key=device.auth_key)
        mender.seen.clear()
        assert (await thief.authenticate()).refusal == (401, "key_change_needs_approval")
        assert mender.seen == []
        assert (await device.authenticate()).status == 200


async def test_key_that_mender_does_not_take(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender, require_same_key=False) as w:
        device = RawDevice(w, auth_key=new_key("secp256k1"))
        mender.seen.clear()
        reply = await device.authenticate()
        assert reply.refusal == (400, "unsupported_key")
        assert mender.admission_calls() == []

"""A valid certificate with another key never displaces the key that Mender trusts: an operator has to approve it."""

from __future__ import annotations

from pathlib import Path

from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice
from tests.world import world


async def test_new_key_on_an_accepted_identity(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        owner = RawDevice(w)
        token = (await owner.authenticate()).token
        newcomer = RawDevice(w, owner.identity)
        for reason in ("key_change_needs_approval", "key_change_needs_approval", "identity_contested"):
            reply = await newcomer.authenticate()
            assert reply.refusal == (401, reason)
            assert reply.json["error"] in (
                "the device's new key awaits approval",
                "several devices claim this identity",
            )
            assert "remedy=" in reply.log
            assert mender.statuses(owner.identity) == {
                owner.holder.public_key_pem.decode(): "accepted",
                newcomer.holder.public_key_pem.decode(): "pending",
            }
            assert await owner.call(token) == 200
            assert (await owner.authenticate()).status == 200
        assert "PUT" not in {method for method, _ in mender.admission_calls()}

        mender.decide(owner.identity, newcomer.holder, "accepted")
        assert await newcomer.call((await newcomer.authenticate()).token) == 200
        for _ in range(2):  # once with the edge's memory of it, once without
            assert (await owner.authenticate()).refusal == (401, "key_superseded")
        assert await owner.call(token) == 401
        assert mender.status_of(owner.identity, owner.holder) == "rejected"
        assert (await newcomer.authenticate()).status == 200
        assert w.edge.outcomes.counts["key_change_needs_approval"] == 2
        assert w.edge.outcomes.counts["identity_contested"] == 1
        assert w.edge.outcomes.counts["key_superseded"] == 2


async def test_new_key_on_an_identity_that_is_only_preauthorised(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        owner = RawDevice(w)
        newcomer = RawDevice(w, owner.identity)
        mender.preauthorise(owner.identity, owner.holder)
        for _ in range(3):
            assert (await newcomer.authenticate()).refusal == (401, "key_change_needs_approval")
            assert mender.status_of(owner.identity, owner.holder) == "preauthorized"
            assert mender.status_of(owner.identity, newcomer.holder) == "pending"
        assert (await owner.authenticate()).status == 200
        assert (await newcomer.authenticate()).refusal == (401, "key_change_needs_approval")
        assert (await owner.authenticate()).status == 200


async def test_a_renewed_certificate_for_the_same_key_needs_no_approval(tmp_path: Path) -> None:
    async with world(tmp_path, lab=(mender := OperatedLab())) as w:
        device = RawDevice(w)
        await device.authenticate()
        renewed = RawDevice(w, device.identity, holder=w.ca.device("renewed", key=device.holder.key))
        assert (await renewed.authenticate()).status == 200
        assert mender.statuses(device.identity) == {device.holder.public_key_pem.decode(): "accepted"}

"""A device that Mender accepts or preauthorises already gets in with one management call, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

from tests.operated_lab import DEVICES, OperatedLab
from tests.raw_device import RawDevice, another_edge
from tests.world import world


async def test_accepted_device_at_an_edge_that_has_forgotten_it(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        device = RawDevice(w)
        first = await device.authenticate()
        before = mender.known(device.identity)
        async with another_edge(w) as restarted:
            mender.seen.clear()
            reply = await device.authenticate(at=restarted)
            assert reply.status == 200
            assert "reason=" not in reply.log
            assert mender.admission_calls() == [("POST", DEVICES)]
            assert mender.known(device.identity) == before
            assert await device.call(first.token) == 200, "the token it had still holds"

            mender.seen.clear()
            assert (await device.authenticate(at=restarted)).status == 200
            assert mender.admission_calls() == [], "now it is known here, too"


async def test_device_that_the_operator_preauthorised(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        device = RawDevice(w)
        mender.preauthorise(device.identity, device.holder)
        reply = await device.authenticate()
        assert await device.call(reply.token) == 200
        assert mender.admission_calls() == [("POST", DEVICES)]
        assert mender.status_of(device.identity, device.holder) == "accepted"
        assert len(mender.devices()) == 1


async def test_spelling_of_the_identity_does_not_matter(tmp_path: Path) -> None:
    """Order, spaces and number format are not part of an identity, neither for Mender nor for the edge."""
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        device = RawDevice(w, {"mac": "aa", "serial": 7.0})
        assert (await device.authenticate()).status == 200
        mender.seen.clear()
        respelled = device.body(id_data='{ "serial": 70e-1,\n"mac" :"a\\u0061"}')
        assert (await device.authenticate(body=respelled)).status == 200
        assert mender.admission_calls() == []
        assert len(mender.devices()) == 1

"""Devices that Mender accepted before there was an edge come with new keys: the named go on, or the first in time."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import pytest

from mtls_ambassador.admission.identity import normal_form
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Event, EventKind
from mtls_ambassador.x509 import spki
from tests.certificates import Holder
from tests.edge_clocks import set_now
from tests.operated_lab import OperatedLab
from tests.raw_device import RawDevice
from tests.world import World, world

DEADLINE = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
"""The end of 2030-12-31, which is what the setting means."""
DAY = dt.timedelta(days=1)


def accepted_long_ago(w: World, mender: OperatedLab) -> RawDevice:
    """A device with a key of its own making, that the edge has never seen."""
    device = RawDevice(w)
    mender.knock(device.identity, device.holder)
    mender.decide(device.identity, device.holder, "accepted")
    return device


def adopt(w: World, device: RawDevice, kind: AdoptionKind, holder: Holder) -> None:
    """An operator's word, as `devices adopt` takes it."""
    values = {
        AdoptionKind.SUBJECT: holder.certificate.subject.rfc4514_string(),
        AdoptionKind.FINGERPRINT: holder.fingerprint,
        AdoptionKind.KEY: hashlib.sha256(spki(holder.key.public_key())).hexdigest(),
    }
    adoption = Adoption(normal_form(device.identity), kind, values[kind])
    assert w.edge.ledger is not None
    w.edge.ledger.record(Event(dt.datetime.now(dt.UTC), EventKind.ADOPTION_NOTED, adoption=adoption))


@pytest.mark.parametrize("kind", list(AdoptionKind))
async def test_the_named_certificate_takes_over_and_no_other(tmp_path: Path, kind: AdoptionKind) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        before = accepted_long_ago(w, mender)
        named, unnamed = (RawDevice(w, before.identity) for _ in range(2))
        adopt(w, before, kind, named.holder)
        assert (await unnamed.authenticate()).refusal == (401, "key_change_needs_approval")
        assert mender.status_of(before.identity, before.holder) == "accepted"

        assert await named.call((await named.authenticate()).token) == 200
        assert mender.status_of(before.identity, before.holder) == "rejected"
        assert await w.history(EventKind.ADOPTED) == ["adopted"]
        assert (await unnamed.authenticate()).refusal[0] == 401
        assert mender.status_of(before.identity, named.holder) == "accepted"


async def test_a_named_identity_that_mender_does_not_know_is_kept_for_its_certificate(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        named = RawDevice(w)
        unnamed = RawDevice(w, named.identity)
        adopt(w, named, AdoptionKind.FINGERPRINT, named.holder)
        assert (await unnamed.authenticate()).refusal == (401, "key_change_needs_approval")
        assert (await named.authenticate()).status == 200


async def test_what_an_operator_rejected_is_not_adopted(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        before = accepted_long_ago(w, mender)
        mender.decide(before.identity, before.holder, "rejected")
        named = RawDevice(w, before.identity)
        adopt(w, before, AdoptionKind.KEY, named.holder)
        assert (await named.authenticate()).refusal == (401, "rejected_by_operator")


async def test_until_a_date_the_first_to_come_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mender, now = OperatedLab(), DEADLINE - DAY
    set_now(monkeypatch, lambda: now)
    async with world(tmp_path, lab=mender, adopt_until="2030-12-31") as w:
        before, late = accepted_long_ago(w, mender), accepted_long_ago(w, mender)
        first, second = (RawDevice(w, before.identity) for _ in range(2))
        assert (await first.authenticate()).status == 200
        assert (await second.authenticate()).refusal == (401, "key_change_needs_approval")
        assert await w.history(EventKind.ADOPTED) == ["adopted"]

        now = DEADLINE
        too_late = RawDevice(w, late.identity)
        assert (await too_late.authenticate()).refusal == (401, "key_change_needs_approval")
        assert mender.status_of(late.identity, late.holder) == "accepted"
        assert (await first.authenticate()).status == 200  # what was adopted stays so
        assert await w.history(EventKind.ADOPTED) == ["adopted"]

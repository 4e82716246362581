"""Bound tokens while certificates, keys and edges change: what goes on, and what costs a device one authentication."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mtls_ambassador.lab.device import AUTH_REQUESTS, SimulatedDevice
from tests.forged_tokens import claims_of, key_id_of, new_token_key, pem
from tests.operated_lab import OperatedLab, RawAnswer, answering
from tests.ports import lasting_port
from tests.raw_device import RawDevice, another_edge
from tests.world import World, eventually, world


@contextlib.asynccontextmanager
async def _device(w: World) -> AsyncIterator[SimulatedDevice]:
    """A device that does what the clients do, and is admitted."""
    async with w.device() as device:
        await device.authenticate()
        yield device


def _authentications(w: World) -> int:
    return sum((call.path, call.status) == (AUTH_REQUESTS, 200) for call in w.lab.calls())


async def _costs(w: World, device: SimulatedDevice) -> int:
    """How often a device authenticates anew while it works for a while."""
    before = _authentications(w)
    for _ in range(3):
        await device.send_inventory()
        await device.check_update()
    return _authentications(w) - before


async def test_turning_it_on_and_off_costs_each_device_one_authentication(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as devices, world(tmp_path) as w:
        listen = f"127.0.0.1:{lasting_port()}"
        async with another_edge(w, listen=listen) as off:
            device = await devices.enter_async_context(_device(off))
            assert await _costs(off, device) == 0
        async with another_edge(w, listen=listen, bind_tokens=True) as on:
            assert await _costs(on, device) == 1
            assert await _costs(on, device) == 0
            assert "reason=token_refused" in w.log_text()
        async with another_edge(w, listen=listen) as off:
            assert await _costs(off, device) == 1
            assert await _costs(off, device) == 0


async def test_a_renewed_certificate_needs_a_new_token(tmp_path: Path) -> None:
    async with world(tmp_path, bind_tokens=True) as w:
        device = RawDevice(w)
        token = (await device.authenticate()).token
        renewed = RawDevice(w, device.identity, holder=w.ca.device("renewed", key=device.holder.key))
        assert await device.call(token) == 200
        assert await renewed.call(token) == 401
        fresh = (await renewed.authenticate()).token
        assert await renewed.call(fresh) == 200
        assert await device.call(fresh) == 401
        assert await device.call(token) == 200, "the old certificate goes on until it expires"
        assert claims_of(fresh)["cnf"] == {"x5h": renewed.holder.fingerprint}


async def test_a_key_is_replaced_without_a_device_noticing(tmp_path: Path) -> None:
    """First it verifies everywhere, then it signs, then the old one goes."""
    old, new = new_token_key(), new_token_key()
    async with world(tmp_path, bind_tokens=True, token_key=pem(old)) as w:
        device = RawDevice(w)
        first = later = (await device.authenticate()).token
        assert key_id_of(first) == old.id
        for keys, signer in ((pem(old, new), old), (pem(new, old), new)):
            async with another_edge(w, bind_tokens=True, token_key=keys) as edge:
                assert await _call(device, first, edge) == 200
                later = (await device.authenticate(at=edge)).token
                assert key_id_of(later) == signer.id
                assert await _call(device, later, edge) == 200
        async with another_edge(w, bind_tokens=True, token_key=pem(new)) as edge:
            assert await _call(device, first, edge) == 401
            assert await _call(device, later, edge) == 200


async def test_edges_with_one_key_take_each_others_tokens(tmp_path: Path) -> None:
    (tmp_path / "token-key.pem").write_text(pem(new_token_key()))
    file = str(tmp_path / "token-key.pem")
    async with (
        world(tmp_path / "w", bind_tokens=True, token_key_file=file) as w,
        another_edge(w, bind_tokens=True, token_key_file=file) as other,
    ):
        device = RawDevice(w)
        at_one, at_other = [(await device.authenticate(at=edge)).token for edge in (w, other)]
        for edge in (w, other):
            assert await _call(device, at_one, edge) == 200
            assert await _call(device, at_other, edge) == 200


async def test_edges_with_two_keys_cost_an_authentication_at_each_switch(tmp_path: Path) -> None:
    async with world(tmp_path, bind_tokens=True) as w, another_edge(w, bind_tokens=True) as other:
        device = RawDevice(w)
        for here, there in ((w, other), (other, w)):
            token = (await device.authenticate(at=here)).token
            assert await _call(device, token, here) == 200
            assert await _call(device, token, there) == 401
        assert w.log_lines("several edges need one token_key in common")


async def test_a_key_of_its_own_outlives_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state-of-it"
    async with world(tmp_path / "w") as w:
        device = RawDevice(w)
        async with another_edge(w, bind_tokens=True, state_dir=str(state)) as edge:
            token = (await device.authenticate(at=edge)).token
        assert (state / "token-key.pem").stat().st_mode & 0o777 == 0o600
        async with another_edge(w, bind_tokens=True, state_dir=str(state)) as edge:
            assert await _call(device, token, edge) == 200


async def test_envoys_restart_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, bind_tokens=True) as w:
        device = RawDevice(w)
        token = (await device.authenticate()).token
        assert w.edge.envoy_pid is not None
        os.kill(w.edge.envoy_pid, signal.SIGKILL)
        await eventually(lambda: w.edge.report()["envoy_restarts"] == 1 and w.edge.health().ready)
        assert await device.call(token) == 200


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (RawAnswer(200, b"opaque"), "is no JWT"),
        (RawAnswer(200, b""), "is no JWT"),
        (RawAnswer(200, b"e30.e30.e30"), "does not say when it expires"),
        (RawAnswer(200, b"\x1f\x8b\x08", ((b"content-encoding", b"gzip"),)), "is no JWT"),
        (RawAnswer(200, b"e30.eyJleHAiOjE4MDAwMDAwMDB9.e30\r\nX-Evil: 1"), "is no JWT"),
    ],
)
async def test_what_cannot_be_bound_is_not_handed_out(tmp_path: Path, answer: RawAnswer, why: str) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender, bind_tokens=True) as w:
        device = RawDevice(w)
        mender.script = answering(answer, "POST", AUTH_REQUESTS)
        reply = await device.authenticate()
        assert reply.refusal == (502, "token_not_bindable")
        assert why in reply.log
        mender.script = None
        assert await device.call((await device.authenticate()).token) == 200


async def test_without_it_the_same_answers_pass_as_they_are(tmp_path: Path) -> None:
    mender = OperatedLab()
    async with world(tmp_path, lab=mender) as w:
        mender.script = answering(RawAnswer(200, b"opaque"), "POST", AUTH_REQUESTS)
        assert (await RawDevice(w).authenticate()).token == "opaque"


async def _call(device: RawDevice, token: str, at: World) -> int:
    return await device.call(token, at=at)

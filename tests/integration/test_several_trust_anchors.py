"""Each trust anchor's devices are admitted with that anchor's credentials, and with no other's.

The lab has one user: one anchor logs in as it, the other shows a personal access token, and what reached Mender tells
them apart.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from tests.certificates import CertificateAuthority, Holder, Issuer
from tests.operated_lab import DEVICES, OperatedLab
from tests.raw_device import RawDevice, another_edge
from tests.world import PASSWORD, USER, World, eventually, world

ONE, TWO = CertificateAuthority("Plant 1"), CertificateAuthority("Plant 2")


@dataclass
class Plants:
    """An edge with the anchors plant-1, which logs in, and plant-2, which has a token."""

    w: World
    lab: OperatedLab
    token: str

    def senders(self, holder: Holder) -> set[str]:
        """In whose name this holder's key was preauthorised: plant-1 or plant-2."""
        key = holder.public_key_pem.decode().splitlines()[1].encode()
        return {
            "plant-2" if dict(request.headers)[b"authorization"].decode() == f"Bearer {self.token}" else "plant-1"
            for request in self.lab.seen
            if request.method == "POST" and request.path == DEVICES and key in request.body
        }

    async def admitted_as(self, holder: Holder) -> str:
        """Let the holder in, and tell the one anchor in whose name that happened."""
        reply = await RawDevice(self.w, holder=holder).authenticate()
        assert reply.status == 200, reply
        (name,) = self.senders(holder)
        assert f"anchor={name}" in reply.log
        return name

    def states(self) -> dict[str, str]:
        """What the operator sees of each anchor's credentials."""
        seen = self.w.edge.report()["trust_anchors"]
        return {name: anchor["management"]["state"] for name, anchor in seen.items()}


@contextlib.asynccontextmanager
async def two_plants(
    directory: Path, one: tuple[Issuer, ...] = (ONE,), two: tuple[Issuer, ...] = (TWO,)
) -> AsyncIterator[Plants]:
    lab = OperatedLab()
    async with world(directory, ca=ONE, lab=lab) as w:
        token = lab.create_token("plant-2")
        for name, content in (
            ("token", token.encode()),
            ("pass", PASSWORD.encode()),
            ("one", _bundle(one)),
            ("two", _bundle(two)),
        ):
            (directory / name).write_bytes(content)
        anchors = [
            {
                "name": "plant-1",
                "ca": str(directory / "one"),
                "mender_user": USER,
                "mender_pass_file": str(directory / "pass"),
            },
            {"name": "plant-2", "ca": str(directory / "two"), "mender_token_file": str(directory / "token")},
        ]
        async with another_edge(w, trust_anchors=anchors) as edge:
            plants = Plants(edge, lab, token)
            await eventually(lambda: plants.states() == {"plant-1": "ok", "plant-2": "ok"})
            yield plants
        assert token not in w.log_text()


def _bundle(cas: tuple[Issuer, ...]) -> bytes:
    return b"".join(ca.pem for ca in cas)


async def test_each_anchor_admits_with_its_own_credentials(tmp_path: Path) -> None:
    async with two_plants(tmp_path) as plants:
        assert await plants.admitted_as(ONE.device("dev-1")) == "plant-1"
        assert await plants.admitted_as(TWO.device("dev-2")) == "plant-2"


async def test_no_device_has_itself_taken_for_another_anchors(tmp_path: Path) -> None:
    """Whatever else it presents, and whatever it says in headers: its own certificate's signature decides."""
    async with two_plants(tmp_path) as plants:
        other = TWO.device("dev-2")
        line = TWO.intermediate("Line 2")
        for number, presented in enumerate(((other.certificate,), (TWO.certificate,), (line.certificate,))):
            holder = replace(ONE.device(f"dev-{number}"), intermediates=presented)
            assert await plants.admitted_as(holder) == "plant-1"
        plain = ONE.device("dev-9")
        spoofed = quote(other.chain_pem.decode(), safe="")
        headers = f"x-edge-client-chain: {spoofed}\r\nX-Edge-Client-Chain: {spoofed}\r\n"
        assert (await RawDevice(plants.w, holder=plain).authenticate(headers=headers)).status == 200
        assert plants.senders(plain) == {"plant-1"}


async def test_an_intermediate_that_the_device_sends_leads_to_its_anchor(tmp_path: Path) -> None:
    async with two_plants(tmp_path) as plants:
        assert await plants.admitted_as(ONE.intermediate("Line 1").device("dev-1")) == "plant-1"
        far = TWO.intermediate("Hall 2", key="rsa4096").intermediate("Line 2", key="rsa3072").device("dev-2")
        assert await plants.admitted_as(far) == "plant-2"
        other = TWO.intermediate("Hall 3").intermediate("Line 3").device("dev-3")
        assert await plants.admitted_as(replace(other, intermediates=other.intermediates[::-1])) == "plant-2"


async def test_a_long_chain(tmp_path: Path) -> None:
    """80 kB of it: only the first few certificates are looked at."""
    async with two_plants(tmp_path) as plants:
        device = TWO.intermediate("Line 2").device("dev-1")
        more = tuple(ONE.intermediate(f"Line {number}", key="rsa4096").certificate for number in range(60))
        assert await plants.admitted_as(replace(device, intermediates=device.intermediates + more)) == "plant-2"


async def test_two_lines_of_one_root_are_two_anchors(tmp_path: Path) -> None:
    root = CertificateAuthority("Root")
    first, second = root.intermediate("Line 1"), root.intermediate("Line 2")
    async with two_plants(tmp_path, (ONE, first), (second,)) as plants:
        assert await plants.admitted_as(first.device("dev-1")) == "plant-1"
        assert await plants.admitted_as(second.device("dev-2")) == "plant-2"
        assert await plants.admitted_as(replace(second.device("dev-3"), intermediates=())) == "plant-2"


async def test_a_certificate_that_leads_to_two_anchors_is_refused(tmp_path: Path) -> None:
    """An intermediate that both plants' CAs have certified, when the device presents it both ways."""
    line = ONE.intermediate("Line")
    crossed = TWO.intermediate("Line", key=line.key)
    async with two_plants(tmp_path) as plants:
        holder = line.device("dev-1")
        holder = replace(holder, intermediates=(line.certificate, crossed.certificate))
        device = RawDevice(plants.w, holder=holder)
        reply = await device.authenticate()
        assert reply.refusal == (403, "anchor_unknown")
        assert "plant-1 and plant-2" in reply.log
        assert "Put the intermediate CA" in reply.log
        assert not plants.senders(holder)
        assert plants.lab.known(device.identity) is None


async def test_bad_credentials_of_one_anchor_leave_the_other_alone(tmp_path: Path) -> None:
    async with two_plants(tmp_path) as plants:
        plants.lab.revoke_tokens()
        stranger = RawDevice(plants.w, holder=TWO.device("dev-1"))
        assert (await stranger.authenticate()).refusal == (503, "management_unavailable")
        for number in range(3):
            assert await plants.admitted_as(ONE.device(f"dev-{number}")) == "plant-1"
        assert plants.states() == {"plant-1": "ok", "plant-2": "credentials_refused"}
        health = plants.w.edge.health()
        assert health.ready
        assert health.detail["management"]["state"] == "credentials_refused"


async def test_cas_that_change_are_known_to_both_sides_at_once(tmp_path: Path) -> None:
    """When Envoy is started again it reads the files anew, and so does what finds the anchor."""
    successor = CertificateAuthority("Plant 2, second CA")
    async with two_plants(tmp_path) as plants:
        assert await plants.admitted_as(TWO.device("dev-1")) == "plant-2"
        (tmp_path / "two").write_bytes(successor.pem)
        old, edge = plants.w.edge.envoy_pid, plants.w.edge
        assert old is not None
        os.kill(old, signal.SIGKILL)
        await eventually(lambda: edge.envoy_pid not in {None, old} and edge.health().ready, 30)
        assert await plants.admitted_as(successor.device("dev-2")) == "plant-2"
        assert await plants.admitted_as(ONE.device("dev-3")) == "plant-1"

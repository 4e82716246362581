"""The real client gets in with every key type Mender tests, two more, and with certificates of an intermediate CA."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import CertificateAuthority, Holder, KeyKind
from tests.e2e.mender_peer import seed_client
from tests.world import World, eventually, world

pytestmark = pytest.mark.needs("mender", "unshare")


async def _gets_in(w: World, directory: Path, holder: Holder, certificate: bytes, mac: str) -> None:
    client = seed_client(
        directory / mac.replace(":", ""),
        port=w.edge.port,
        trust=[directory / "ca.pem"],
        certificate=certificate,
        key=holder.key_pem,
        identity={"mac": mac},
    )
    async with client:
        await eventually(lambda: any(d.identity == {"mac": mac} and d.inventory for d in w.lab.devices()), 30)
    assert w.mender_device({"mac": mac}).status == "accepted"


async def test_key_types(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        kinds: tuple[KeyKind, ...] = ("rsa3072", "p256", "ed25519", "p384", "p521")
        for number, kind in enumerate(kinds):
            holder = w.ca.device(f"device-{kind}", key=kind)
            await _gets_in(w, tmp_path, holder, holder.pem, f"52:54:00:00:01:{number:02x}")


async def test_leaf_only_and_chain_of_an_intermediate_in_our_bundle(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    intermediate = ca.intermediate("Line 1")
    async with world(tmp_path, ca=ca, bundle=ca.pem + intermediate.pem) as w:
        first, second = intermediate.device("leaf-only"), intermediate.device("with-chain")
        await _gets_in(w, tmp_path, first, first.pem, "52:54:00:00:02:01")
        await _gets_in(w, tmp_path, second, second.chain_pem, "52:54:00:00:02:02")

"""A certificate claims only the identity that the owner's rules give it; of anything else Mender hears nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.certificates import CertificateAuthority, Holder
from tests.raw_device import RawDevice, another_edge
from tests.world import World, world

OWN, OTHER = "52:54:00:ab:cd:01", "52:54:00:ab:cd:02"
CN_IS_MAC = {"certificate": "subject.CN", "identity": "mac", "compare": "mac"}


async def try_out(w: World, holder: Holder, identity: dict[str, Any], at: World | None = None) -> tuple[int, str, str]:
    """Status, reason and log line of an auth request; refused ones leave no trace at Mender."""
    before = len(w.relay.seen)
    reply = await RawDevice(w, identity, holder=holder).authenticate(at=at)
    if reply.status == 200:
        return 200, "", reply.log
    assert len(w.relay.seen) == before
    return *reply.refusal, reply.log


async def test_refuse(tmp_path: Path) -> None:
    binding = {"mode": "refuse", "rules": [CN_IS_MAC]}
    async with world(tmp_path, binding=binding) as w:
        thief = w.ca.device(OWN)
        status, reason, log = await try_out(w, thief, {"mac": OTHER})
        assert (status, reason) == (401, "identity_mismatch")
        assert "the client's certificate does not match the identity in the auth request" in log
        assert f"detail='expected subject.CN {OTHER}, got {OWN} (rule: subject.CN equals mac (compare: mac))'" in log
        assert "mend the rules in binding" in log
        for identity in ({"MAC": OWN}, {"mac": OWN.upper()}, {"mac": [OWN]}, {"serial": "1"}):
            assert (await try_out(w, thief, identity))[:2] == (401, "identity_mismatch")
        assert not w.lab.devices()

        for spelling in (OWN, OWN.upper().replace(":", "-"), OWN.replace(":", "")):
            holder = w.ca.device(spelling, key=thief.key)
            assert (await try_out(w, holder, {"mac": OWN}))[0] == 200
        assert w.mender_device({"mac": OWN}).status == "accepted"
        assert (await try_out(w, thief, {"mac": OTHER}))[0] == 401  # nor later, when Mender knows it
        assert w.edge.outcomes.counts == {"identity_mismatch": 6, "admitted": 3}


async def test_warn_admits_and_tells_then_refuse_does_as_told(tmp_path: Path) -> None:
    rules = [{"certificate": "san.dns", "template": "{mac}.devices.example.com", "compare": "mac"}]
    async with world(tmp_path, binding={"mode": "warn", "rules": rules}) as w:
        good = w.ca.device("1", san=["DNS:other.example", "DNS:525400abcd01.devices.example.com"])
        bad = w.ca.device("2", san=["DNS:525400abcd03.devices.example.com"])
        none = w.ca.device("3")
        status, _, log = await try_out(w, good, {"mac": OWN})
        assert status == 200
        assert "would" not in log
        status, _, log = await try_out(w, bad, {"mac": OTHER})
        assert status == 200
        assert "binding mode refuse would refuse 127.0.0.1:" in log
        assert "would_be=identity_mismatch" in log
        assert f"expected san.dns {OTHER}.devices.example.com, got 525400abcd03.devices.example.com" in log
        status, _, log = await try_out(w, none, {"mac": "52:54:00:ab:cd:04"})
        assert status == 200
        assert "expected a certificate with san.dns, got one without" in log
        assert {device.status for device in w.lab.devices()} == {"accepted"}
        assert len(w.lab.devices()) == 3
        assert w.edge.outcomes.counts == {"admitted": 3, "binding_warned": 2}

        async with another_edge(w, binding={"rules": rules}) as strict:
            assert (await try_out(w, good, {"mac": OWN}, strict))[0] == 200
            assert (await try_out(w, bad, {"mac": OTHER}, strict))[:2] == (401, "identity_mismatch")
            assert (await try_out(w, none, {"mac": "52:54:00:ab:cd:04"}, strict))[0] == 401


async def test_off_compares_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, binding={"mode": "off", "rules": [CN_IS_MAC]}) as w:
        status, _, log = await try_out(w, w.ca.device("dev-1"), {"mac": OTHER})
        assert status == 200
        assert "binding" not in log


async def test_a_pattern_and_a_choice_by_issuer(tmp_path: Path) -> None:
    root = CertificateAuthority("My CA")
    plant, legacy = root.intermediate("Plant"), root.intermediate("Legacy")
    rules = [
        {
            "any": [
                {
                    "all": [
                        {"certificate": "issuer", "template": "CN=Plant"},
                        {"certificate": "subject.CN", "pattern": r"dev-(?P<serial>\d{8})"},
                    ]
                },
                {"all": [{"certificate": "issuer", "template": "CN=Legacy"}, {"unsafe_any_identity": True}]},
            ]
        }
    ]
    async with world(tmp_path, ca=root, binding={"rules": rules}) as w:
        assert (await try_out(w, plant.device("dev-00004711"), {"serial": "00004711", "site": "x"}))[0] == 200
        status, reason, log = await try_out(w, plant.device("dev-00004712"), {"serial": "00004711"})
        assert (status, reason) == (401, "identity_mismatch")
        assert "expected subject.CN with serial 00004711 or issuer CN=Legacy, got dev-00004712; CN=Plant" in log
        assert (await try_out(w, legacy.device("anything"), {"mac": OWN}))[0] == 200

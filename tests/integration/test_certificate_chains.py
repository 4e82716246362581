"""A device's certificate may come from a root, or from an intermediate that either side has; bundles may hold many CAs.

An intermediate in the bundle suffices by itself: its root need not be there, and the device need not send it.
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import attempt, request
from tests.certificates import CertificateAuthority, Holder
from tests.world import World, eventually, world

# The same certificate is shown in several ways, each time as another device.
MANY: dict[str, Any] = {"identities_per_certificate": "unlimited"}
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


async def admitted(w: World, holder: Holder, name: str, *, chain: bool = True) -> bool:
    """Whether a device with this certificate is admitted, on both versions alike; False: its handshake fails."""
    outcomes = set()
    for version in VERSIONS:
        identity = {"mac": f"{name} {version.name}"}
        signed = auth_request(holder.key, identity)
        data = request("POST", AUTH_REQUESTS, signed.headers.items(), signed.body)
        tried = await attempt(w.edge.port, data, w.client_context(holder, version=version, chain=chain))
        if tried.data:
            assert tried.answer.status == 200, tried.answer
            assert w.mender_device(identity).status == "accepted"
        outcomes.add(bool(tried.data))
    (outcome,) = outcomes
    return outcome


async def test_intermediate_that_the_device_sends(tmp_path: Path) -> None:
    async with world(tmp_path, **MANY) as w:
        device = w.ca.intermediate("Line 1").device("dev-1")
        assert await admitted(w, device, "chain")
        assert not await admitted(w, device, "leaf only", chain=False)
        await eventually(lambda: len(w.log_lines("reason=unknown_ca")) == len(VERSIONS))


async def test_two_intermediates_that_the_device_sends(tmp_path: Path) -> None:
    async with world(tmp_path, **MANY) as w:
        device = w.ca.intermediate("Plant 1").intermediate("Line 1").device("dev-1")
        assert await admitted(w, device, "in order")
        near, far = device.intermediates
        assert await admitted(w, replace(device, intermediates=(far, near)), "out of order")
        assert await admitted(w, replace(device, intermediates=(near, far, w.ca.certificate)), "with the root")
        assert not await admitted(w, replace(device, intermediates=(near,)), "one is missing")


@pytest.mark.parametrize("with_root", [True, False])
async def test_intermediate_in_the_bundle(tmp_path: Path, with_root: bool) -> None:
    ca = CertificateAuthority("My CA")
    line = ca.intermediate("Line 1")
    async with world(tmp_path, ca=ca, bundle=line.pem + ca.pem if with_root else line.pem, **MANY) as w:
        device = line.device("dev-1")
        assert await admitted(w, device, "chain")
        assert await admitted(w, device, "leaf only", chain=False)
        assert await admitted(w, ca.device("dev-2"), "of the root") is with_root
        assert await admitted(w, ca.intermediate("Line 2").device("dev-3"), "of another line") is with_root


async def test_bundle_of_two_authorities(tmp_path: Path) -> None:
    first, second, third = (CertificateAuthority(name) for name in ("CA 1", "CA 2", "CA 3"))
    async with world(tmp_path, ca=first, bundle=b"our CAs\n" + first.pem + b"\nand\n" + second.pem, **MANY) as w:
        assert await admitted(w, first.device("dev-1"), "first")
        assert await admitted(w, second.device("dev-1"), "second")
        assert await admitted(w, second.intermediate("Line 1").device("dev-1"), "second, line 1")
        assert not await admitted(w, third.device("dev-1"), "third")


async def test_bundle_of_two_authorities_of_one_name(tmp_path: Path) -> None:
    first = CertificateAuthority("My CA")
    second = CertificateAuthority("My CA")
    async with world(tmp_path, ca=first, bundle=first.pem + second.pem, **MANY) as w:
        assert await admitted(w, first.device("dev-1"), "first")
        assert await admitted(w, second.device("dev-1"), "second")


async def test_renewed_authority_in_place_of_the_old_one(tmp_path: Path) -> None:
    old = CertificateAuthority("My CA")
    async with world(tmp_path, ca=old, bundle=old.renewed().pem, **MANY) as w:
        assert await admitted(w, old.device("dev-1"), "of the old one")

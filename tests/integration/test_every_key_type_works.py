"""Devices with RSA, ECDSA and Ed25519 keys authenticate and send inventory, on TLS 1.2 and on TLS 1.3."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from tests.attempts import attempt, request
from tests.certificates import KeyKind
from tests.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS: tuple[KeyKind, ...] = ("rsa2048", "rsa3072", "p256", "p384", "p521", "ed25519")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    # RSA keys take long to make, so these devices share theirs.
    async with world(tmp_path_factory.mktemp("world"), identities_per_certificate="unlimited") as running:
        yield running


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", KEYS)
async def test_device_with_this_key(w: World, key: KeyKind, version: str) -> None:
    holder = w.ca.device(f"{key}-{version}", key=key)
    identity = {"mac": f"{key} {version}"}
    context = w.client_context(holder, version=VERSIONS[version])

    signed = auth_request(holder.key, identity)
    tried = await attempt(w.edge.port, request("POST", AUTH_REQUESTS, signed.headers.items(), signed.body), context)
    assert tried.answer.status == 200, tried.answer
    assert tried.answer.header("content-type") == "application/jwt"

    inventory = json.dumps([{"name": "key", "value": key}]).encode()
    headers = {"Authorization": f"Bearer {tried.answer.body.decode()}", "Content-Type": "application/json"}
    tried = await attempt(w.edge.port, request("PUT", INVENTORY, headers.items(), inventory), context)
    assert tried.answer.status == 200, tried.answer

    known = w.mender_device(identity)
    assert (known.status, known.inventory) == ("accepted", {"key": key})


@pytest.mark.parametrize("key", KEYS)
async def test_the_simulated_device_with_this_key(w: World, key: KeyKind) -> None:
    async with w.device(w.ca.device(f"{key}-simulated", key=key), {"mac": f"{key} simulated"}) as device:
        await device.authenticate()
        await device.send_inventory({"key": key})
        assert await device.check_update() is None
    assert w.mender_device({"mac": f"{key} simulated"}).inventory["key"] == key

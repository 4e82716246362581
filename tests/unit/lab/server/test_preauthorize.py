"""The exact effect of a preauthorization: every row of the table of starting points, without and with force."""

from __future__ import annotations

import pytest

from tests.unit.lab.server.conftest import Start
from tests.unit.lab.server.peer import DEVAUTH, Peer, key, pem

IDENTITY = {"mac": "52:54:00:12:34:56"}


def statuses(peer: Peer) -> tuple[str, dict[str, str]]:
    """The status of the one device, and those of its sets by the name of the key."""
    (device,) = peer.lab.devices()
    names = {pem(key(name).public_key()): name for name in ("old", "new")}
    return device.status, {names[item.pubkey]: item.status for item in device.auth_sets}


async def set_status(peer: Peer, name: str, status: str) -> None:
    (device,) = peer.lab.devices()
    (chosen,) = [item for item in device.auth_sets if item.pubkey == pem(key(name).public_key())]
    peer.lab.set_status(device.id, chosen.id, status)


class TestUnknownIdentity:
    @pytest.mark.parametrize("force", [False, True])
    async def test_is_preauthorized_and_accepted_when_it_comes(self, peer: Peer, force: bool) -> None:
        found = await peer.preauthorize(IDENTITY, force=force)
        assert (found.status, found.body) == (201, b"")
        assert found.headers["location"] == f"devices/{peer.lab.devices()[0].id}"
        assert statuses(peer) == ("preauthorized", {"old": "preauthorized"})
        assert (await peer.authenticate(IDENTITY)).status == 200
        assert statuses(peer) == ("accepted", {"old": "accepted"})

    async def test_counts_towards_the_limit_only_when_it_comes(self, start: Start) -> None:
        async with start(max_devices=0) as peer:
            assert (await peer.preauthorize(IDENTITY)).status == 201
            found = await peer.authenticate(IDENTITY)
            assert (found.status, found.error) == (401, "unauthorized")
            assert statuses(peer) == ("preauthorized", {"old": "preauthorized"})
            peer.lab.set_max_devices(1)
            assert (await peer.authenticate(IDENTITY)).status == 200


class TestSameKeyPending:
    @pytest.fixture(autouse=True)
    async def start_there(self, peer: Peer) -> None:
        assert (await peer.authenticate(IDENTITY)).status == 401

    async def test_without_force_stays_pending(self, peer: Peer) -> None:
        assert (await peer.preauthorize(IDENTITY)).status == 409
        assert statuses(peer) == ("pending", {"old": "pending"})
        assert (await peer.authenticate(IDENTITY)).status == 401

    async def test_with_force_the_set_changes_and_the_device_not_yet(self, peer: Peer) -> None:
        assert (await peer.preauthorize(IDENTITY, force=True)).status == 201
        assert statuses(peer) == ("pending", {"old": "preauthorized"})
        assert (await peer.authenticate(IDENTITY)).status == 200
        assert statuses(peer) == ("accepted", {"old": "accepted"})

    async def test_with_force_the_limit_counts(self, peer: Peer) -> None:
        peer.lab.set_max_devices(0)
        assert (await peer.preauthorize(IDENTITY, force=True)).status == 201
        assert (await peer.authenticate(IDENTITY)).error == "unauthorized"

    async def test_the_location_names_no_device(self, peer: Peer) -> None:
        found = await peer.preauthorize(IDENTITY, force=True)
        named = found.headers["location"].removeprefix("devices/")
        assert named != peer.lab.devices()[0].id
        assert (await peer.call("GET", f"{DEVAUTH}/devices/{named}")).status == 404

    async def test_the_conflict_shows_the_device_without_its_sets(self, peer: Peer) -> None:
        found = await peer.preauthorize(IDENTITY)
        (device,) = peer.lab.devices()
        assert found.status == 409
        assert (found.json["id"], found.json["status"]) == (device.id, "pending")
        assert found.json["identity_data"] == IDENTITY
        assert found.json["auth_sets"] is None
        assert found.json["decommissioning"] is False


class TestSameKeyRejected:
    @pytest.fixture(autouse=True)
    async def start_there(self, peer: Peer) -> None:
        await peer.authenticate(IDENTITY)
        await set_status(peer, "old", "rejected")

    async def test_without_force_stays_rejected(self, peer: Peer) -> None:
        assert (await peer.preauthorize(IDENTITY)).status == 409
        assert statuses(peer) == ("rejected", {"old": "rejected"})
        assert (await peer.authenticate(IDENTITY)).status == 401

    async def test_with_force_the_rejection_is_overridden(self, peer: Peer) -> None:
        assert (await peer.preauthorize(IDENTITY, force=True)).status == 201
        assert statuses(peer) == ("rejected", {"old": "preauthorized"})
        assert (await peer.authenticate(IDENTITY)).status == 200
        assert statuses(peer) == ("accepted", {"old": "accepted"})


class TestSameKeyAccepted:
    async def test_without_force_stays_accepted(self, peer: Peer) -> None:
        token = await peer.accepted(IDENTITY)
        assert (await peer.preauthorize(IDENTITY)).status == 409
        assert statuses(peer) == ("accepted", {"old": "accepted"})
        assert await peer.alive(token)
        assert (await peer.authenticate(IDENTITY)).status == 200

    async def test_with_force_the_token_dies_until_it_authenticates_again(self, peer: Peer) -> None:
        token = await peer.accepted(IDENTITY)
        peer.lab.set_max_devices(0)  # does not count: the device is accepted
        assert (await peer.preauthorize(IDENTITY, force=True)).status == 201
        assert statuses(peer) == ("accepted", {"old": "preauthorized"})
        assert not await peer.alive(token)
        assert (await peer.authenticate(IDENTITY)).status == 200
        assert await peer.alive(token)


class TestSameKeyPreauthorized:
    @pytest.mark.parametrize(("force", "status"), [(False, 409), (True, 201)])
    async def test_stays_so(self, peer: Peer, force: bool, status: int) -> None:
        await peer.preauthorize(IDENTITY)
        assert (await peer.preauthorize(IDENTITY, force=force)).status == status
        assert statuses(peer) == ("preauthorized", {"old": "preauthorized"})
        assert (await peer.authenticate(IDENTITY)).status == 200


class TestNewKeyOfAnAcceptedDevice:
    async def test_without_force_becomes_pending_when_it_comes(self, peer: Peer) -> None:
        token = await peer.accepted(IDENTITY)
        assert (await peer.preauthorize(IDENTITY, "new")).status == 409
        assert (await peer.authenticate(IDENTITY, "new")).status == 401
        assert statuses(peer) == ("accepted", {"old": "accepted", "new": "pending"})
        assert await peer.alive(token)

    async def test_with_force_takes_over_when_it_comes(self, peer: Peer) -> None:
        token = await peer.accepted(IDENTITY)
        peer.lab.set_max_devices(0)
        assert (await peer.preauthorize(IDENTITY, "new", force=True)).status == 201
        assert statuses(peer) == ("accepted", {"old": "accepted", "new": "preauthorized"})
        assert await peer.alive(token)
        assert (await peer.authenticate(IDENTITY)).status == 200
        taken_over = await peer.authenticate(IDENTITY, "new")
        assert taken_over.status == 200
        assert statuses(peer) == ("accepted", {"old": "rejected", "new": "accepted"})
        assert not await peer.alive(token)
        assert await peer.alive(taken_over.text)
        assert (await peer.authenticate(IDENTITY)).error == "dev auth: unauthorized"


class TestNewKeyWhileAnotherIsPreauthorized:
    async def test_without_force_is_refused(self, peer: Peer) -> None:
        await peer.preauthorize(IDENTITY)
        assert (await peer.preauthorize(IDENTITY, "new")).status == 409
        assert statuses(peer) == ("preauthorized", {"old": "preauthorized"})

    async def test_with_force_the_first_to_come_wins(self, peer: Peer) -> None:
        await peer.preauthorize(IDENTITY)
        assert (await peer.preauthorize(IDENTITY, "new", force=True)).status == 201
        assert statuses(peer) == ("preauthorized", {"old": "preauthorized", "new": "preauthorized"})
        assert (await peer.authenticate(IDENTITY, "new")).status == 200
        assert statuses(peer) == ("accepted", {"old": "preauthorized", "new": "accepted"})

    async def test_with_force_aggregating_is_broken(self, peer: Peer) -> None:
        await peer.authenticate(IDENTITY, "third")
        await peer.preauthorize(IDENTITY, force=True)
        await peer.preauthorize(IDENTITY, "new", force=True)
        (device,) = peer.lab.devices()
        pending = next(item for item in device.auth_sets if item.status == "pending")
        found = await peer.call("DELETE", f"{DEVAUTH}/devices/{device.id}/auth/{pending.id}")
        assert (found.status, found.error) == (500, "internal error")


class TestDecommissioningDevice:
    @pytest.mark.parametrize(("force", "status"), [(False, 409), (True, 201)])
    async def test_is_refused_until_it_is_gone(self, start: Start, force: bool, status: int) -> None:
        async with start(decommission_delay=3600.0) as peer:
            token = await peer.accepted(IDENTITY)
            peer.lab.decommission(peer.lab.devices()[0].id)
            assert (await peer.preauthorize(IDENTITY, force=force)).status == status
            assert (await peer.authenticate(IDENTITY)).error == "dev auth: unauthorized"
            assert not await peer.alive(token)
            assert peer.lab.devices()[0].decommissioning

    async def test_is_unknown_afterwards(self, peer: Peer) -> None:
        await peer.accepted(IDENTITY)
        peer.lab.decommission(peer.lab.devices()[0].id)
        assert peer.lab.devices() == []
        assert (await peer.preauthorize(IDENTITY)).status == 201


class TestBody:
    GOOD_PEM = pem(key("old").public_key())

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"", "EOF"),
            (b"{", "unexpected EOF"),
            (b"[]", "json: cannot unmarshal array"),
            ({"pubkey": GOOD_PEM}, "identity_data: cannot be blank."),
            ({"identity_data": {}, "pubkey": GOOD_PEM}, "identity_data: cannot be blank."),
            ({"identity_data": None, "pubkey": GOOD_PEM}, "identity_data: cannot be blank."),
            ({"identity_data": '{"a":1}', "pubkey": GOOD_PEM}, "json: cannot unmarshal string"),
            ({"identity_data": {"a": 1}}, "pubkey: cannot be blank."),
            ({"identity_data": {"a": 1}, "pubkey": "x"}, "cannot decode public key"),
            ({"identity_data": {"a": 1}, "pubkey": GOOD_PEM, "force": "yes"}, "json: cannot unmarshal string"),
        ],
    )
    async def test_that_is_wrong_is_refused(self, peer: Peer, body: object, text: str) -> None:
        found = await peer.call("POST", f"{DEVAUTH}/devices", body)
        assert found.status == 400
        assert found.error.startswith(f"failed to decode preauth request: {text}")
        assert peer.lab.devices() == []

    async def test_is_read_as_go_reads_it(self, peer: Peer) -> None:
        pubkey = self.GOOD_PEM.replace("\n", "\\n")
        body = f'{{"IDENTITY_DATA":{{"b":1.0}},"identity_data":{{"a":"<"}},"PubKey":"{pubkey}"}} and the rest'
        assert (await peer.call("POST", f"{DEVAUTH}/devices", body.encode())).status == 201
        assert (await peer.authenticate({"b": 1, "a": "<"})).status == 200

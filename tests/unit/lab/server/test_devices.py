"""The management of devices and auth sets."""

from __future__ import annotations

import pytest

from mtls_ambassador.lab.server import LabDevice, Refusal
from tests.unit.lab.server.conftest import Start
from tests.unit.lab.server.peer import DEVAUTH, Peer, key, pem

DEVICES = f"{DEVAUTH}/devices"


def device(peer: Peer, serial: str) -> LabDevice:
    return next(item for item in peer.lab.devices() if item.identity["serial"] == serial)


def path(found: LabDevice, number: int = 0) -> str:
    return f"{DEVICES}/{found.id}/auth/{found.auth_sets[number].id}"


@pytest.fixture
async def fleet(peer: Peer) -> Peer:
    """One device each: pending, accepted, rejected, preauthorized."""
    for serial in ("pending", "accepted", "rejected"):
        await peer.authenticate({"serial": serial})
    await peer.preauthorize({"serial": "preauthorized"})
    for serial in ("accepted", "rejected"):
        found = device(peer, serial)
        peer.lab.set_status(found.id, found.auth_sets[0].id, serial)
    return peer


class TestList:
    async def test_is_sorted_by_status(self, fleet: Peer) -> None:
        found = await fleet.call("GET", DEVICES)
        assert found.status == 200
        assert [item["status"] for item in found.json] == ["accepted", "pending", "preauthorized", "rejected"]
        assert "x-total-count" not in found.headers
        assert found.links == (f'<{DEVICES}?page=1&per_page=20>; rel="first"',)

    async def test_shows_the_whole_device(self, fleet: Peer) -> None:
        found = (await fleet.call("GET", f"{DEVICES}?status=accepted")).json[0]
        assert set(found) == {
            "id",
            "identity_data",
            "status",
            "decommissioning",
            "created_ts",
            "updated_ts",
            "auth_sets",
        }
        (auth_set,) = found["auth_sets"]
        assert set(auth_set) == {"id", "identity_data", "pubkey", "ts", "status"}
        assert auth_set["pubkey"] == pem(key("old").public_key())
        assert found["created_ts"] == "2027-01-15T08:00:00.250Z"
        assert (await fleet.call("GET", f"{DEVICES}/{found['id']}")).json == found

    async def test_is_filtered(self, fleet: Peer) -> None:
        async def statuses(query: str) -> list[str]:
            return [item["status"] for item in (await fleet.call("GET", f"{DEVICES}?{query}")).json]

        ids = [device(fleet, serial).id for serial in ("pending", "rejected")]
        assert await statuses("status=pending&status=accepted") == ["accepted", "pending"]
        assert await statuses(f"id={ids[0]}&id={ids[1]}") == ["pending", "rejected"]
        assert await statuses(f"id={ids[0]}&status=rejected") == []

    async def test_is_searched(self, fleet: Peer) -> None:
        async def statuses(body: object) -> list[str]:
            return [item["status"] for item in (await fleet.call("POST", f"{DEVICES}/search", body)).json]

        assert await statuses({"status": "pending"}) == ["pending"]
        assert await statuses({"status": ["pending", "accepted"], "id": None}) == ["accepted", "pending"]
        assert await statuses({"id": device(fleet, "pending").id}) == ["pending"]
        assert await statuses({"status": "unheard of"}) == []
        assert len(await statuses({})) == 4

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (b"", "application/json", 400),
            (b"[]", "application/json", 400),
            ({"status": 1}, "application/json", 400),
            ({"status": [1]}, "application/json", 400),
            ({"id": {}}, "application/json", 400),
            ({}, "application/json; charset=utf-8", 415),
            ({}, "text/plain", 415),
        ],
    )
    async def test_search_that_is_wrong_is_refused(
        self, peer: Peer, body: object, content_type: str, status: int
    ) -> None:
        assert (await peer.call("POST", f"{DEVICES}/search", body, Content_Type=content_type)).status == status

    async def test_comes_in_pages(self, fleet: Peer) -> None:
        first = await fleet.call("GET", f"{DEVICES}?per_page=3&status=pending&status=accepted&status=rejected")
        assert len(first.json) == 3
        assert len(first.links) == 1  # exactly full: there is no next page
        second = await fleet.call("GET", f"{DEVICES}?page=2&per_page=1&status=pending&status=accepted")
        assert [item["status"] for item in second.json] == ["pending"]
        query = "per_page=1&status=pending&status=accepted"
        assert second.links == (
            f'<{DEVICES}?page=1&{query}>; rel="first"',
            f'<{DEVICES}?page=1&{query}>; rel="prev"',
        )
        third = await fleet.call("GET", f"{DEVICES}?page=2&per_page=1")
        assert [link.partition("rel=")[2] for link in third.links] == ['"first"', '"prev"', '"next"']
        assert "page=3" in third.links[2]

    @pytest.mark.parametrize(
        "query", ["page=0", "page=-1", "page=x", "per_page=0", "per_page=501", "per_page=1.5", "status=unheard"]
    )
    async def test_with_a_wrong_query_is_refused(self, peer: Peer, query: str) -> None:
        found = await peer.call("GET", f"{DEVICES}?{query}")
        assert found.status == 400
        assert found.error

    async def test_is_counted(self, fleet: Peer) -> None:
        async def count(query: str) -> int:
            return int((await fleet.call("GET", f"{DEVICES}/count{query}")).json["count"])

        assert await count("") == 4
        assert await count("?status=accepted") == 1
        assert await count("?status=noauth") == 0
        assert (await fleet.call("GET", f"{DEVICES}/count?status=unheard")).status == 400


class TestStatus:
    @pytest.mark.parametrize(
        ("old", "new", "status"),
        [
            ("pending", "pending", 204),
            ("pending", "accepted", 204),
            ("pending", "rejected", 204),
            ("accepted", "accepted", 204),
            ("accepted", "rejected", 204),
            ("accepted", "pending", 204),
            ("rejected", "rejected", 204),
            ("rejected", "accepted", 204),
            ("rejected", "pending", 204),
            ("preauthorized", "accepted", 400),
            ("preauthorized", "rejected", 400),
            ("preauthorized", "pending", 400),
            ("pending", "preauthorized", 400),
            ("pending", "noauth", 400),
            ("pending", "", 400),
        ],
    )
    async def test_is_set(self, fleet: Peer, old: str, new: str, status: int) -> None:
        found = device(fleet, old)
        assert (await fleet.call("PUT", f"{path(found)}/status", {"status": new})).status == status
        expected = new if status == 204 else old
        assert device(fleet, old).status == expected
        assert (await fleet.call("GET", f"{path(found)}/status")).json == {"status": expected}

    async def test_of_nothing_is_404(self, fleet: Peer) -> None:
        found = device(fleet, "pending")
        for target in (f"{DEVICES}/{found.id}/auth/x", f"{DEVICES}/x/auth/x"):
            assert (await fleet.call("PUT", f"{target}/status", {"status": "accepted"})).status == 404
            assert (await fleet.call("GET", f"{target}/status")).status == 404
            assert (await fleet.call("DELETE", target)).status == 404

    async def test_of_the_set_of_another_device_is_refused(self, fleet: Peer) -> None:
        foreign = f"{DEVICES}/{device(fleet, 'accepted').id}/auth/{device(fleet, 'pending').auth_sets[0].id}"
        found = await fleet.call("PUT", f"{foreign}/status", {"status": "accepted"})
        assert (found.status, found.error) == (400, "dev auth: dev ID and auth ID mismatch")

    @pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"status":1}'])
    async def test_in_a_wrong_body_is_refused(self, fleet: Peer, body: bytes) -> None:
        found = await fleet.call("PUT", f"{path(device(fleet, 'pending'))}/status", body)
        assert found.status == 400
        assert found.error.startswith(("failed to decode status data: ", "incorrect device status"))

    async def test_accepting_a_set_rejects_the_other_one(self, peer: Peer) -> None:
        token = await peer.accepted({"serial": "1"})
        await peer.authenticate({"serial": "1"}, "new")
        found = device(peer, "1")
        peer.lab.set_max_devices(1)  # the device is accepted already
        peer.lab.set_status(found.id, found.auth_sets[1].id, "accepted")
        assert [item.status for item in device(peer, "1").auth_sets] == ["rejected", "accepted"]
        assert not await peer.alive(token)

    @pytest.mark.parametrize("status", ["rejected", "pending"])
    async def test_taking_an_acceptance_back_ends_the_tokens(self, peer: Peer, status: str) -> None:
        token = await peer.accepted({"serial": "1"})
        found = device(peer, "1")
        peer.lab.set_status(found.id, found.auth_sets[0].id, status)
        assert not await peer.alive(token)
        peer.lab.set_status(found.id, found.auth_sets[0].id, "accepted")
        assert not await peer.alive(token)  # the row is gone
        assert (await peer.authenticate({"serial": "1"})).status == 200
        assert await peer.alive(token)  # and back, under the same id

    async def test_at_the_device_limit_is_refused(self, start: Start) -> None:
        async with start(max_devices=1) as peer:
            await peer.accepted({"serial": "1"})
            await peer.authenticate({"serial": "2"})
            found = await peer.call("PUT", f"{path(device(peer, '2'))}/status", {"status": "accepted"})
            assert (found.status, found.error) == (422, "maximum number of accepted devices reached")
            assert (await peer.call("GET", f"{DEVAUTH}/limits/max_devices")).json == {"limit": 1}

    async def test_is_unlimited_by_default(self, peer: Peer) -> None:
        assert (await peer.call("GET", f"{DEVAUTH}/limits/max_devices")).json == {"limit": -1}
        assert (await peer.call("GET", f"{DEVAUTH}/limits/other")).status == 400

    async def test_an_operator_in_a_test_is_refused_likewise(self, fleet: Peer) -> None:
        found = device(fleet, "preauthorized")
        with pytest.raises(Refusal) as caught:
            fleet.lab.set_status(found.id, found.auth_sets[0].id, "accepted")
        assert caught.value.status == 400


class TestDeletion:
    async def test_of_the_accepted_set_ends_the_tokens(self, peer: Peer) -> None:
        token = await peer.accepted({"serial": "1"})
        assert (await peer.call("DELETE", path(device(peer, "1")))).status == 204
        assert (device(peer, "1").status, device(peer, "1").auth_sets) == ("noauth", ())
        assert not await peer.alive(token)

    async def test_of_the_last_preauthorized_set_takes_the_device_along(self, fleet: Peer) -> None:
        found = device(fleet, "preauthorized")
        assert (await fleet.call("DELETE", path(found))).status == 204
        assert (await fleet.call("GET", f"{DEVICES}/{found.id}")).status == 404

    async def test_of_another_preauthorized_set_leaves_the_device(self, peer: Peer) -> None:
        token = await peer.accepted({"serial": "1"})
        await peer.preauthorize({"serial": "1"}, "new", force=True)
        assert (await peer.call("DELETE", path(device(peer, "1"), 1))).status == 204
        assert device(peer, "1").status == "accepted"
        assert await peer.alive(token)

    async def test_of_the_set_of_another_device_is_404(self, fleet: Peer) -> None:
        foreign = f"{DEVICES}/{device(fleet, 'accepted').id}/auth/{device(fleet, 'pending').auth_sets[0].id}"
        assert (await fleet.call("DELETE", foreign)).status == 404

    async def test_of_a_device_removes_it_everywhere(self, peer: Peer) -> None:
        token = await peer.accepted({"serial": "1"})
        found = device(peer, "1")
        assert (await peer.call("DELETE", f"{DEVICES}/{found.id}")).status == 204
        assert (await peer.call("DELETE", f"{DEVICES}/{found.id}")).status == 404
        assert (await peer.call("GET", f"{DEVICES}/{found.id}")).error == "device not found"
        assert (await peer.call("GET", f"/api/management/v1/inventory/devices/{found.id}")).status == 404
        assert not await peer.alive(token)

    async def test_of_tokens_revokes_them_until_the_device_comes_again(self, peer: Peer) -> None:
        token = await peer.accepted({"serial": "1"})
        target = f"{DEVAUTH}/tokens/{device(peer, '1').auth_sets[0].id}"
        assert (await peer.call("DELETE", target)).status == 204
        assert not await peer.alive(token)
        assert (await peer.call("DELETE", target)).status == 404
        assert (await peer.authenticate({"serial": "1"})).status == 200
        assert await peer.alive(token)

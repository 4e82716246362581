"""Groups: who is in which, and deployments to all of one."""

from __future__ import annotations

import pytest

from mtls_ambassador.lab.server import Refusal
from tests.unit.lab.server.artifact import artifact
from tests.unit.lab.server.peer import DEPLOYMENTS, Peer

INVENTORY = "/api/management/v1/inventory"
MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def ids(peer: Peer) -> list[str]:
    """Three accepted devices."""
    for serial in "123":
        await peer.accepted({"serial": serial}, f"key-{serial}")
    return sorted(device.id for device in peer.lab.devices())


async def _put(peer: Peer, device_id: str, name: object) -> int:
    return (await peer.call("PUT", f"{INVENTORY}/devices/{device_id}/group", {"group": name})).status


async def _group(peer: Peer, device_id: str) -> object:
    return (await peer.call("GET", f"{INVENTORY}/devices/{device_id}/group")).json["group"]


async def test_a_device_is_in_one_at_most(peer: Peer, ids: list[str]) -> None:
    assert await _group(peer, ids[0]) is None
    assert await _put(peer, ids[0], "lab-1") == 204
    assert await _put(peer, ids[0], "lab_2") == 204
    assert await _group(peer, ids[0]) == "lab_2"
    assert (await peer.call("GET", f"{INVENTORY}/groups")).json == ["lab_2"]
    assert (await peer.call("DELETE", f"{INVENTORY}/devices/{ids[0]}/group/lab-1")).status == 404
    assert (await peer.call("DELETE", f"{INVENTORY}/devices/{ids[0]}/group/lab_2")).status == 204
    assert await _group(peer, ids[0]) is None
    assert (await peer.call("GET", f"{INVENTORY}/groups")).json == []


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 1025, 1])
async def test_names_that_cannot_be(peer: Peer, ids: list[str], name: object) -> None:
    assert await _put(peer, ids[0], name) == 400
    assert await _group(peer, ids[0]) is None


async def test_devices_that_are_not_there(peer: Peer) -> None:
    assert await _put(peer, MISSING, "lab") == 404
    assert (await peer.call("GET", f"{INVENTORY}/devices/{MISSING}/group")).error == "Device not found"
    assert (await peer.call("GET", f"{INVENTORY}/groups/lab/devices")).error == "group not found"


async def test_several_devices_at_once(peer: Peer, ids: list[str]) -> None:
    path = f"{INVENTORY}/groups/lab/devices"
    await _put(peer, ids[0], "lab")
    joined = await peer.call("PATCH", path, [ids[0], ids[1], MISSING])
    assert (joined.status, joined.json) == (200, {"updated_count": 1, "matched_count": 2})
    found = await peer.call("GET", f"{path}?per_page=1&page=2")
    assert (found.json, found.headers["x-total-count"]) == ([ids[1]], "2")
    left = await peer.call("DELETE", path, [ids[1], ids[2]])
    assert left.json == {"updated_count": 1, "matched_count": 1}
    assert (await peer.call("GET", path)).json == [ids[0]]
    dissolved = await peer.call("DELETE", f"{INVENTORY}/groups/lab")
    assert dissolved.json == {"updated_count": 1, "matched_count": 1}
    assert await _group(peer, ids[0]) is None


@pytest.mark.parametrize("body", [[], {}, [1], b"x"])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_lists_of_devices_that_are_none(peer: Peer, method: str, body: object) -> None:
    assert (await peer.call(method, f"{INVENTORY}/groups/lab/devices", body)).status == 400


async def test_inventory_finds_devices_by_group(peer: Peer, ids: list[str]) -> None:
    async def found(query: str) -> list[str]:
        return sorted(item["id"] for item in (await peer.call("GET", f"{INVENTORY}/devices?{query}")).json)

    await _put(peer, ids[0], "lab")
    await _put(peer, ids[1], "field")
    assert await found("group=lab") == [ids[0]]
    assert await found("has_group=true") == ids[:2]
    assert await found("has_group=false") == [ids[2]]
    body = {"filters": [{"scope": "system", "attribute": "group", "type": "$eq", "value": "field"}]}
    searched = await peer.call("POST", "/api/management/v2/inventory/filters/search", body)
    assert [item["id"] for item in searched.json] == [ids[1]]


async def test_groups_by_the_status_of_their_devices(peer: Peer, ids: list[str]) -> None:
    await peer.authenticate({"serial": "pending"})
    (pending,) = [device.id for device in peer.lab.devices() if device.status == "pending"]
    await _put(peer, ids[0], "lab")
    await _put(peer, pending, "waiting")
    assert (await peer.call("GET", f"{INVENTORY}/groups")).json == ["lab", "waiting"]
    assert (await peer.call("GET", f"{INVENTORY}/groups?status=accepted")).json == ["lab"]


async def test_a_group_outlives_the_inventory_that_a_device_reports(peer: Peer) -> None:
    token = await peer.accepted({"serial": "1"})
    (device,) = peer.lab.devices()
    await _put(peer, device.id, "lab")
    attributes = "/api/devices/v1/inventory/device/attributes"
    assert (await peer.call("PUT", attributes, [{"name": "a", "value": "b"}], token=token)).status == 200
    assert await _group(peer, device.id) == "lab"


class TestDeployments:
    async def test_are_for_the_accepted_devices_of_the_group(self, peer: Peer, ids: list[str]) -> None:
        await peer.authenticate({"serial": "pending"})
        await peer.upload(artifact())
        (pending,) = [device.id for device in peer.lab.devices() if device.status == "pending"]
        for device_id in (*ids[:2], pending):
            peer.lab.put_into_group(device_id, "lab")
        peer.lab.put_into_group(ids[2], "field")
        body = {"name": "n", "artifact_name": "release-2"}
        found = await peer.call("POST", f"{DEPLOYMENTS}/group/lab", body)
        assert found.status == 201
        (deployment,) = peer.lab.deployments()
        assert found.headers["location"] == f"{DEPLOYMENTS}/{deployment.id}"
        assert (sorted(deployment.devices), deployment.group) == (ids[:2], "lab")
        shown = (await peer.call("GET", f"{DEPLOYMENTS}/{deployment.id}")).json
        assert (shown["groups"], shown["max_devices"], shown["type"]) == (["lab"], 2, "software")

    @pytest.mark.parametrize(
        ("group", "change", "said"),
        [
            ("other", {}, "No devices for the deployment"),
            ("lab", {"devices": ["x"]}, "should have neither list of devices nor all_devices"),
            ("lab", {"all_devices": True}, "should have neither list of devices nor all_devices"),
        ],
    )
    async def test_that_are_refused(
        self, peer: Peer, ids: list[str], group: str, change: dict[str, object], said: str
    ) -> None:
        await peer.upload(artifact())
        peer.lab.put_into_group(ids[0], "lab")
        body = {"name": "n", "artifact_name": "release-2", **change}
        found = await peer.call("POST", f"{DEPLOYMENTS}/group/{group}", body)
        assert found.status == 400
        assert said in found.error
        assert peer.lab.deployments() == []


async def test_an_operator_in_the_process_is_refused_alike(peer: Peer, ids: list[str]) -> None:
    with pytest.raises(Refusal, match="can only contain"):
        peer.lab.put_into_group(ids[0], "a b")

"""Deployments: who gets what, what devices report, and when it is over."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mtls_ambassador.lab.server import Refusal
from tests.unit.lab.server.artifact import artifact
from tests.unit.lab.server.conftest import Clock, Start
from tests.unit.lab.server.peer import DEPLOYMENTS, Answer, Peer

DEVICE_API = "/api/devices/v1/deployments/device/deployments"
NEXT_V2 = "/api/devices/v2/deployments/device/deployments/next"
MISSING = str(uuid.uuid4())
LOG = {"messages": [{"timestamp": "2027-01-15T08:00:00Z", "level": "error", "message": "no space left"}]}


@dataclass(frozen=True)
class Device:
    """An accepted device."""

    peer: Peer
    token: str
    id: str

    async def ask(self, name: str = "release-1", kind: str = "lab", **others: Any) -> Answer:
        body = {"artifact_name": name, "device_type": kind, **others}
        return await self.peer.call("POST", f"{DEVICE_API}/next", body, token=self.token)

    async def report(self, deployment_id: str, status: object, **others: Any) -> Answer:
        body = {"status": status, **others}
        return await self.peer.call("PUT", f"{DEVICE_API}/{deployment_id}/status", body, token=self.token)

    async def send_log(self, deployment_id: str, log: object) -> Answer:
        return await self.peer.call("PUT", f"{DEVICE_API}/{deployment_id}/log", log, token=self.token)


async def _device(peer: Peer, serial: str) -> Device:
    token = await peer.accepted({"serial": serial})
    (found,) = [device.id for device in peer.lab.devices() if device.identity == {"serial": serial}]
    return Device(peer, token, found)


@pytest.fixture
async def one(peer: Peer) -> Device:
    """A device; release-2 can be installed."""
    assert (await peer.upload(artifact())).status == 201
    return await _device(peer, "1")


@pytest.fixture
async def other(one: Device) -> Device:
    return await _device(one.peer, "2")


def _deploy(*devices: Device, name: str = "first", artifact_name: str = "release-2", **options: Any) -> str:
    ids = [device.id for device in devices]
    return devices[0].peer.lab.create_deployment(name, artifact_name, ids, **options)


class TestCreating:
    async def test_for_devices(self, one: Device, other: Device) -> None:
        body = {"name": "first", "artifact_name": "release-2", "devices": [one.id]}
        found = await one.peer.call("POST", DEPLOYMENTS, body)
        (deployment,) = one.peer.lab.deployments()
        assert (found.status, found.body) == (201, b"")
        assert found.headers["location"] == f"{DEPLOYMENTS}/{deployment.id}"
        assert (deployment.name, deployment.artifact_name, deployment.status) == ("first", "release-2", "pending")
        assert deployment.devices == {one.id: "pending"}

    async def test_for_all_accepted_devices(self, one: Device, other: Device) -> None:
        await one.peer.authenticate({"serial": "pending"})
        body = {"name": "first", "artifact_name": "release-2", "all_devices": True}
        assert (await one.peer.call("POST", DEPLOYMENTS, body)).status == 201
        assert set(one.peer.lab.deployments()[0].devices) == {one.id, other.id}

    async def test_for_all_devices_when_there_are_none(self, peer: Peer) -> None:
        await peer.upload(artifact())
        found = await peer.call("POST", DEPLOYMENTS, {"name": "n", "artifact_name": "release-2", "all_devices": True})
        assert (found.status, found.error) == (400, "No devices for the deployment")

    @pytest.mark.parametrize(
        ("change", "status", "said"),
        [
            ({"name": ""}, 400, "name: the length must be"),
            ({"name": "x" * 4097}, 400, "name: the length must be"),
            ({"artifact_name": ""}, 400, "artifact_name: the length must be"),
            ({"devices": None}, 400, "provide list of devices or set all_devices flag"),
            ({"devices": []}, 400, "provide list of devices or set all_devices flag"),
            ({"devices": [""]}, 400, "devices: cannot be blank"),
            ({"devices": "x"}, 400, "devices: must be an array"),
            ({"devices": [1]}, 400, "devices: must be an array"),
            ({"all_devices": True}, 400, "list of devices provided togheter with all_devices flag"),
            ({"all_devices": "x"}, 400, "cannot unmarshal"),
            ({"artifact_name": "release-9"}, 422, "No artifact for the deployment"),
        ],
    )
    async def test_refused(self, one: Device, change: dict[str, Any], status: int, said: str) -> None:
        body = {"name": "first", "artifact_name": "release-2", "devices": [one.id], **change}
        found = await one.peer.call("POST", DEPLOYMENTS, body)
        assert found.status == status
        assert said in found.error
        assert one.peer.lab.deployments() == []

    async def test_the_same_again_only_after_the_first_has_ended(self, one: Device) -> None:
        first = _deploy(one)
        with pytest.raises(Refusal, match="already an active deployment") as refused:
            _deploy(one)
        assert refused.value.status == 409
        _deploy(one, name="second")
        one.peer.lab.abort(first)
        _deploy(one)


class TestTheNextDeployment:
    async def test_is_told_with_a_link(self, one: Device) -> None:
        deployment_id = _deploy(one)
        found = await one.ask()
        (uploaded,) = one.peer.lab.artifacts()
        assert found.status == 200
        assert found.json["id"] == deployment_id
        told = found.json["artifact"]
        assert (told["id"], told["artifact_name"], told["device_types_compatible"]) == (
            uploaded.id,
            "release-2",
            ["lab"],
        )
        assert (told["source"]["method"], told["source"]["expire"]) == ("GET", "2027-01-16T08:00:00Z")
        link = urlsplit(told["source"]["uri"])
        assert (await one.peer.call("GET", f"{link.path}?{link.query}", token="")).body == artifact()

    async def test_is_told_again(self, one: Device) -> None:
        _deploy(one)
        assert (await one.ask()).json["artifact"] == (await one.ask()).json["artifact"]

    async def test_by_get(self, one: Device) -> None:
        _deploy(one)
        path = f"{DEVICE_API}/next?artifact_name=release-1&device_type=lab"
        assert (await one.peer.call("GET", path, token=one.token)).json["artifact"]["artifact_name"] == "release-2"

    async def test_by_v2_where_there_is_that(self, start: Start) -> None:
        async with start(v2_next=True) as peer:
            await peer.upload(artifact())
            device = await _device(peer, "1")
            provides = {"artifact_name": "release-1", "device_type": "lab", "rootfs-image.version": "1"}
            body = {"device_provides": provides, "update_control_map": True}
            assert (await peer.call("POST", NEXT_V2, body, token=device.token)).status == 204
            _deploy(device)
            found = await peer.call("POST", NEXT_V2, body, token=device.token)
            assert found.json["artifact"]["artifact_name"] == "release-2"
            for bad in ({}, {"device_provides": 1}, {"device_provides": {**provides, "other": 1}}, b"x"):
                assert (await peer.call("POST", NEXT_V2, bad, token=device.token)).status == 400

    async def test_is_the_oldest(self, one: Device) -> None:
        await one.peer.upload(artifact("release-3"))
        first, second = _deploy(one), _deploy(one, artifact_name="release-3")
        assert (await one.ask()).json["id"] == first
        await one.report(first, "success")
        assert (await one.ask("release-2")).json["id"] == second

    async def test_is_none_for_other_devices(self, one: Device, other: Device) -> None:
        _deploy(one)
        assert (await other.ask()).status == 204

    async def test_is_of_the_devices_type(self, one: Device, other: Device) -> None:
        await one.peer.upload(artifact(types=("qemu",)))
        _deploy(one, other)
        assert (await one.ask(kind="lab")).json["artifact"]["device_types_compatible"] == ["lab"]
        assert (await other.ask(kind="qemu")).json["artifact"]["device_types_compatible"] == ["qemu"]

    async def test_has_no_artifact_for_the_type(self, one: Device) -> None:
        _deploy(one)
        assert (await one.ask(kind="other")).status == 204
        (deployment,) = one.peer.lab.deployments()
        assert (deployment.status, deployment.devices) == ("finished", {one.id: "noartifact"})

    async def test_is_installed_already(self, one: Device) -> None:
        _deploy(one)
        assert (await one.ask("release-2")).status == 204
        assert one.peer.lab.deployments()[0].devices == {one.id: "already-installed"}

    async def test_is_installed_already_but_forced(self, one: Device) -> None:
        _deploy(one, force_installation=True)
        assert (await one.ask("release-2")).status == 200

    async def test_with_other_provides_than_before(self, one: Device) -> None:
        _deploy(one)
        assert (await one.ask(artifact_provides={"a": "1", "b": "2"})).status == 200
        assert (await one.ask(artifact_provides={"b": "2", "a": "1"})).status == 200
        found = await one.ask(artifact_provides={"a": "3"})
        assert (found.status, found.error) == (409, "Device provided conflicting request data")
        assert one.peer.lab.deployments()[0].devices == {one.id: "failure"}
        assert (await one.ask()).status == 204

    @pytest.mark.parametrize("provides", [1, {"a": 1}])
    async def test_with_provides_of_no_such_form(self, one: Device, provides: Any) -> None:
        assert (await one.ask(artifact_provides=provides)).status == 400


class TestReports:
    async def test_of_a_whole_deployment(self, one: Device, other: Device, clock: Clock) -> None:
        deployment_id = _deploy(one, other)
        await one.ask()
        for status in ("downloading", "downloading", "installing", "rebooting", "success"):
            found = await one.report(deployment_id, status)
            assert (found.status, found.body) == (204, b"")
            (deployment,) = one.peer.lab.deployments()
            assert (deployment.status, deployment.devices[one.id]) == ("inprogress", status)
        await other.ask()
        clock.now += 60
        await other.report(deployment_id, "failure", substate="ArtifactInstall")
        assert one.peer.lab.deployments()[0].status == "finished"
        shown = (await one.peer.call("GET", f"{DEPLOYMENTS}/{deployment_id}")).json
        assert shown["finished"] == "2027-01-15T08:01:00.250Z"

    @pytest.mark.parametrize("status", ["pending", "aborted", "noartifact", "decommissioned", "x", "", 1])
    async def test_of_what_no_device_may_say(self, one: Device, status: object) -> None:
        deployment_id = _deploy(one)
        await one.ask()
        assert (await one.report(deployment_id, status)).status == 400

    async def test_with_a_long_substate(self, one: Device) -> None:
        deployment_id = _deploy(one)
        await one.ask()
        assert (await one.report(deployment_id, "installing", substate="x" * 201)).status == 400
        assert (await one.report(deployment_id, "installing", substate="x" * 200)).status == 204

    async def test_of_what_the_device_has_nothing_to_do_with(self, one: Device, other: Device) -> None:
        deployment_id = _deploy(one)
        assert (await one.report(deployment_id, "success")).status == 404  # it has not asked
        await one.ask()
        assert (await other.report(deployment_id, "success")).status == 404
        assert (await other.send_log(deployment_id, LOG)).error == "Deployment not found"
        assert (await one.report(MISSING, "success")).status == 404

    async def test_logs(self, one: Device) -> None:
        deployment_id = _deploy(one)
        await one.ask()
        path = f"{DEPLOYMENTS}/{deployment_id}/devices/{one.id}/log"
        assert (await one.peer.call("GET", path)).status == 404
        assert (await one.send_log(deployment_id, LOG)).status == 204
        found = await one.peer.call("GET", path)
        assert found.text == "2027-01-15T08:00:00Z error: no space left\n"
        assert found.headers["content-type"] == "text/plain; charset=utf-8"
        assert one.peer.lab.deployments()[0].logs == {one.id: found.text}

    @pytest.mark.parametrize(
        "log",
        [
            {},
            {"messages": []},
            {"messages": ["x"]},
            {"messages": [{**LOG["messages"][0], "level": ""}]},
            {"messages": [{**LOG["messages"][0], "message": 1}]},
            {"messages": [{**LOG["messages"][0], "timestamp": "today"}]},
            b"x",
        ],
    )
    async def test_logs_of_no_such_form(self, one: Device, log: object) -> None:
        deployment_id = _deploy(one)
        await one.ask()
        assert (await one.send_log(deployment_id, log)).status == 400


class TestAborting:
    async def test_is_told_to_devices_that_are_busy(self, one: Device, other: Device) -> None:
        deployment_id = _deploy(one, other)
        await one.ask()
        await one.report(deployment_id, "installing")
        path = f"{DEPLOYMENTS}/{deployment_id}/status"
        found = await one.peer.call("PUT", path, {"status": "aborted"})
        assert (found.status, found.body) == (204, b"")
        refused = await one.report(deployment_id, "installing")
        assert (refused.status, refused.error) == (409, "Deployment aborted")
        (deployment,) = one.peer.lab.deployments()
        assert (deployment.status, deployment.devices) == ("finished", {one.id: "aborted"})
        assert (await one.ask()).status == 204
        assert (await other.ask()).status == 204
        again = await one.peer.call("PUT", path, {"status": "aborted"})
        assert (again.status, again.error) == (422, "Deployment already finished")

    @pytest.mark.parametrize("status", ["success", "x", "", 1])
    async def test_is_the_only_change(self, one: Device, status: object) -> None:
        found = await one.peer.call("PUT", f"{DEPLOYMENTS}/{_deploy(one)}/status", {"status": status})
        assert found.status == 400
        assert one.peer.lab.deployments()[0].status == "pending"

    async def test_of_nothing(self, peer: Peer) -> None:
        assert (await peer.call("PUT", f"{DEPLOYMENTS}/{MISSING}/status", {"status": "aborted"})).status == 422
        assert (await peer.call("PUT", f"{DEPLOYMENTS}/1/status", {"status": "aborted"})).status == 400


async def test_decommissioned_devices_have_ended(one: Device, other: Device) -> None:
    _deploy(one, other)
    await one.ask()
    one.peer.lab.decommission(one.id)
    (deployment,) = one.peer.lab.deployments()
    assert (deployment.status, deployment.devices[one.id]) == ("pending", "decommissioned")
    one.peer.lab.decommission(other.id)
    assert one.peer.lab.deployments()[0].status == "finished"


async def test_they_survive_a_restart(start: Start, tmp_path: Path) -> None:
    async with start(db=tmp_path / "lab.db") as peer:
        await peer.upload(artifact())
        device = await _device(peer, "1")
        deployment_id = _deploy(device)
        told = (await device.ask()).json["artifact"]["id"]
        await device.send_log(deployment_id, LOG)
        before = peer.lab.deployments(), peer.lab.artifacts()
    async with start(db=tmp_path / "lab.db") as peer:
        assert (peer.lab.deployments(), peer.lab.artifacts()) == before
        device = Device(peer, device.token, device.id)
        assert (await device.ask()).json["artifact"]["id"] == told
        assert (await device.report(deployment_id, "success")).status == 204


class TestLooking:
    async def test_at_a_deployment(self, one: Device, other: Device) -> None:
        deployment_id = _deploy(one, other)
        await one.ask()
        await one.report(deployment_id, "installing", substate="ArtifactInstall")
        shown = (await one.peer.call("GET", f"{DEPLOYMENTS}/{deployment_id}")).json
        counts = shown["statistics"]["status"]
        assert (counts["installing"], counts["pending"], counts["success"]) == (1, 1, 0)
        (uploaded,) = one.peer.lab.artifacts()
        assert shown["statistics"]["total_size"] == uploaded.size
        assert shown["artifacts"] == [uploaded.id]
        assert (shown["status"], shown["device_count"], shown["max_devices"]) == ("inprogress", 1, 2)
        assert "finished" not in shown
        assert (await one.peer.call("GET", f"{DEPLOYMENTS}/{deployment_id}/statistics")).json == counts
        (device,) = (await one.peer.call("GET", f"{DEPLOYMENTS}/{deployment_id}/devices")).json
        assert device["image"]["id"] == uploaded.id
        assert {name: device[name] for name in ("id", "status", "substate", "log")} == {
            "id": one.id,
            "status": "installing",
            "substate": "ArtifactInstall",
            "log": False,
        }
        devices = (await one.peer.call("GET", f"{DEPLOYMENTS}/{deployment_id}/device_list")).json
        assert set(devices) == {one.id, other.id}

    async def test_at_devices_by_pages(self, one: Device, other: Device) -> None:
        deployment_id = _deploy(one, other)
        await one.ask()
        await other.ask()
        await other.report(deployment_id, "success")
        path = f"{DEPLOYMENTS}/{deployment_id}/devices/list"
        found = await one.peer.call("GET", f"{path}?per_page=1&page=2")
        assert (len(found.json), found.headers["x-total-count"]) == (1, "2")
        for status, devices in (
            ("active", [one.id]),
            ("finished", [other.id]),
            ("success", [other.id]),
            ("pause", []),
        ):
            assert [item["id"] for item in (await one.peer.call("GET", f"{path}?status={status}")).json] == devices
        assert (await one.peer.call("GET", f"{path}?status=x")).status == 400

    async def test_at_all(self, one: Device) -> None:
        for name in ("a", "b", "c"):
            _deploy(one, name=name)
        one.peer.lab.abort(one.peer.lab.deployments()[0].id)
        await one.ask()
        await one.report(one.peer.lab.deployments()[1].id, "downloading")

        async def names(query: str) -> list[str]:
            return [item["name"] for item in (await one.peer.call("GET", f"{DEPLOYMENTS}{query}")).json]

        assert await names("") == ["c", "b", "a"]
        assert await names("?sort=asc") == ["a", "b", "c"]
        assert await names("?status=finished") == ["a"]
        assert await names("?status=inprogress") == ["b"]
        assert await names("?status=pending") == ["c"]
        assert await names("?status=aborted") == []
        assert await names("?search=RELEASE&per_page=2&page=2") == ["a"]
        assert (await one.peer.call("GET", f"{DEPLOYMENTS}?search=b")).headers["x-total-count"] == "1"
        assert (await one.peer.call("GET", f"{DEPLOYMENTS}?status=x")).status == 400
        assert (await one.peer.call("GET", f"{DEPLOYMENTS}?sort=x")).status == 400

    @pytest.mark.parametrize("tail", ["", "/statistics", "/devices", "/devices/list", "/device_list"])
    async def test_at_nothing(self, peer: Peer, tail: str) -> None:
        assert (await peer.call("GET", f"{DEPLOYMENTS}/{MISSING}{tail}")).status == 404
        assert (await peer.call("GET", f"{DEPLOYMENTS}/1{tail}")).status == 400

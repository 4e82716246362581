"""Configurations: written, deployed, downloaded by a link, reported."""

from __future__ import annotations

import sqlite3
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mtls_ambassador.lab.messages import MENDER_CLIENT
from mtls_ambassador.lab.server import Refusal
from mtls_ambassador.lab.server.artifact_file import read_artifact
from tests.connected_device import connected_device
from tests.unit.lab.server.conftest import Clock, Start
from tests.unit.lab.server.peer import DEPLOYMENTS, Peer
from tests.world import eventually

CONFIGURATION = "/api/devices/v1/deviceconfig/configuration"
MANAGEMENT = "/api/management/v1/deviceconfig/configurations/device"
DEVICE_API = "/api/devices/v1/deployments/device/deployments"
DOWNLOADS = "/api/devices/v1/deployments/download/configuration"
VALUES = {"timezone": "Europe/Oslo", "<b>": "ä & \u2028"}
MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def token(peer: Peer) -> str:
    return await peer.accepted({"serial": "1"})


def _id(peer: Peer) -> str:
    (device,) = peer.lab.devices()
    return device.id


async def _next(peer: Peer, token: str, kind: str = "lab") -> dict[str, Any]:
    body = {"artifact_name": "release-1", "device_type": kind}
    found = await peer.call(
        "POST", f"{DEVICE_API}/next", body, token=token, X_Forwarded_Host="edge:8443", X_Forwarded_Proto="https"
    )
    assert found.status == 200, found.text
    return dict(found.json)


async def _link(peer: Peer, token: str, kind: str = "lab") -> str:
    """Path and query of the download of a configuration that was just deployed."""
    await peer.lab.deploy_configuration(_id(peer), VALUES)
    parts = urlsplit((await _next(peer, token, kind))["artifact"]["source"]["uri"])
    return f"{parts.path}?{parts.query}"


async def test_is_written_deployed_installed_and_reported(peer: Peer, token: str, tmp_path: Path) -> None:
    device_id = _id(peer)
    path = f"{MANAGEMENT}/{device_id}"
    assert (await peer.call("GET", path)).error == "device does not exist"
    written = await peer.call("PUT", path, VALUES)
    assert (written.status, written.body) == (204, b"")
    assert (await peer.call("GET", CONFIGURATION, token=token)).json == VALUES
    assert (await peer.call("GET", path)).json == {
        "id": device_id,
        "configured": VALUES,
        "reported": {},
        "updated_ts": "2027-01-15T08:00:00.250Z",
    }

    deployed = await peer.call("POST", f"{path}/deploy", {"retries": 0})
    assert deployed.status == 200
    deployment_id = deployed.json["deployment_id"]
    assert (await peer.call("GET", path)).json["deployment_id"] == deployment_id
    (deployment,) = peer.lab.deployments()
    assert (deployment.id, deployment.configuration) == (deployment_id, VALUES)
    assert deployment.devices == {device_id: "pending"}

    told = await _next(peer, token)
    name = f"configuration-{deployment_id}"
    assert told["id"] == deployment_id
    assert told["artifact"]["id"] == deployment_id + device_id
    assert told["artifact"]["artifact_name"] == name
    assert told["artifact"]["device_types_compatible"] == ["lab"]
    assert told["artifact"]["source"]["expire"] == "2027-01-15T08:15:00Z"
    link = urlsplit(told["artifact"]["source"]["uri"])
    assert (link.scheme, link.netloc) == ("https", "edge:8443")
    assert link.path == f"{DOWNLOADS}/{deployment_id}/lab/{device_id}"

    found = await peer.call("GET", f"{link.path}?{link.query}", token="")
    assert (found.status, found.headers["content-length"]) == (200, str(len(found.body)))
    assert found.headers["content-type"] == "application/vnd.mender-artifact"
    assert found.headers["content-disposition"] == 'attachment; filename="artifact.mender"'
    assert len(found.body) >= 4096  # the Go client wants so many bytes
    assert (await peer.call("GET", f"{link.path}?{link.query}", token="", Range="bytes=5-")).body == found.body
    file = tmp_path / "configuration.mender"
    file.write_bytes(found.body)
    contents = read_artifact(file)
    assert (contents.name, contents.device_types, contents.signed) == (name, ("lab",), False)
    assert contents.provides == {"artifact_name": name, "data-partition.mender-configure.version": name}
    assert contents.clears_provides == ("data-partition.mender-configure.*",)
    (payload,) = contents.payloads
    assert (payload.type, payload.files, payload.metadata) == ("mender-configure", (), VALUES)
    with tarfile.open(file) as whole:
        assert whole.getnames() == ["version", "manifest", "header.tar", "data/0000.tar"]

    status = f"{DEVICE_API}/{deployment_id}/status"
    assert (await peer.call("PUT", status, {"status": "success"}, token=token)).status == 204
    assert peer.lab.deployments()[0].status == "finished"
    assert (await peer.call("PUT", CONFIGURATION, VALUES, token=token)).status == 204
    after = peer.lab.configuration(device_id)
    assert (after.reported, after.reported_at) == (VALUES, "2027-01-15T08:00:00.250Z")


async def test_operators_see_what_kind_of_deployment_it_is(peer: Peer, token: str) -> None:
    deployment_id = await peer.lab.deploy_configuration(_id(peer), {"b": "2", "a": "1"})
    shown = (await peer.call("GET", f"{DEPLOYMENTS}/{deployment_id}")).json
    assert (shown["type"], shown["configuration"]) == ("configuration", '{"a":"1","b":"2"}')
    for kind, count in (("configuration", 1), ("software", 0)):
        assert len((await peer.call("GET", f"{DEPLOYMENTS}?type={kind}")).json) == count
    assert (await peer.call("GET", f"{DEPLOYMENTS}?type=other")).status == 400


async def test_only_what_was_configured_before_can_be_deployed(peer: Peer, token: str) -> None:
    path = f"{MANAGEMENT}/{_id(peer)}"
    assert (await peer.call("POST", f"{path}/deploy", {})).status == 404
    await peer.call("PUT", path, VALUES)
    bodies: list[Any] = [b"", b"x", [], {"retries": "x"}, {"update_control_map": 1}]
    for body in bodies:
        assert (await peer.call("POST", f"{path}/deploy", body)).status == 400
    assert peer.lab.deployments() == []
    with pytest.raises(Refusal, match="device does not exist"):
        peer.lab.configuration(MISSING)


async def test_a_connected_device_is_told_to_ask(peer: Peer, token: str) -> None:
    path = f"{MANAGEMENT}/{_id(peer)}"
    await peer.call("PUT", path, VALUES)
    async with connected_device(peer.lab.url, token) as device:
        assert (await peer.call("POST", f"{path}/deploy", {})).status == 200
        await eventually(lambda: device.kinds() == [(MENDER_CLIENT, "check-update")])


@pytest.mark.parametrize(
    "body",
    [
        [],
        b"x",
        {"timezone": 1},
        {"timezone": None},
        {"": "x"},
        {"timezone": "x" * 4097},
        {"x" * 4097: "x"},
        {str(number): "x" for number in range(101)},
    ],
)
async def test_configurations_that_are_none(peer: Peer, token: str, body: object) -> None:
    assert (await peer.call("PUT", f"{MANAGEMENT}/{_id(peer)}", body)).status == 400
    assert (await peer.call("PUT", CONFIGURATION, body, token=token)).status == 400
    assert (await peer.call("GET", CONFIGURATION, token=token)).status == 404


async def test_what_is_deployed_is_what_was_configured_then(peer: Peer, token: str) -> None:
    first = await peer.lab.deploy_configuration(_id(peer), {"a": "1"})
    second = await peer.lab.deploy_configuration(_id(peer), {"a": "2"})
    assert [item.configuration for item in peer.lab.deployments()] == [{"a": "1"}, {"a": "2"}]
    assert (await _next(peer, token))["id"] == first
    assert peer.lab.configuration(_id(peer)).deployment_id == second


class TestTheLink:
    async def test_expires(self, peer: Peer, token: str, clock: Clock) -> None:
        link = await _link(peer, token)
        clock.now += 901
        found = await peer.call("GET", link, token="")
        assert (found.status, found.error) == (403, "URL expired")

    async def test_is_for_one_device_of_one_type(self, peer: Peer, token: str) -> None:
        link = await _link(peer, token)
        for changed, status in (
            (link.replace("/lab/", "/other/"), 403),
            (link.replace(_id(peer), MISSING), 403),
            (link.partition("?")[0], 400),
            (link.replace("x-men-expire=2027", "x-men-expire=2028"), 403),
        ):
            assert (await peer.call("GET", changed, token="")).status == status

    async def test_fits_device_types_of_any_form(self, peer: Peer, token: str) -> None:
        for kind in ("raspberry pi/4", "a?b#c%41ä"):
            link = await _link(peer, token, kind)
            assert (await peer.call("GET", link, token="")).status == 200
            peer.lab.abort(peer.lab.deployments()[-1].id)

    async def test_of_a_deployment_that_is_another_devices_or_gone(self, peer: Peer, token: str) -> None:
        link = await _link(peer, token)
        artifacts = peer.lab._artifacts
        for tail in (f"{MISSING}/lab/{_id(peer)}", f"{peer.lab.deployments()[0].id}/lab/{MISSING}"):
            signed = artifacts.sign(f"{DOWNLOADS}/{tail}", 60).uri
            found = await peer.call("GET", signed, token="")
            assert (found.status, found.error) == (404, f"deployment with id '{tail[:36]}' not found")
        assert (await peer.call("GET", link, token="")).status == 200


async def test_a_removed_device_leaves_no_configuration(peer: Peer, token: str) -> None:
    device_id = _id(peer)
    await peer.lab.deploy_configuration(device_id, VALUES)
    peer.lab.decommission(device_id)
    assert (await peer.call("GET", f"{MANAGEMENT}/{device_id}")).status == 404
    assert peer.lab.deployments()[0].devices == {device_id: "decommissioned"}


async def test_a_database_of_before_is_kept(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "lab.db"
    with sqlite3.connect(path) as before:
        before.execute("CREATE TABLE configurations (device_id TEXT PRIMARY KEY, reported TEXT NOT NULL)")
        before.execute("INSERT INTO configurations VALUES (?, ?)", (MISSING, '{"a": "1"}'))
        before.execute(
            "CREATE TABLE deployments (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
            " artifact_name TEXT NOT NULL, force_installation INTEGER NOT NULL, created TEXT NOT NULL, finished TEXT,"
            " digest TEXT NOT NULL)"
        )
        before.execute("INSERT INTO deployments VALUES (1, 'd', 'n', 'a', 0, 'c', 'f', 'x')")
    before.close()
    async with start(db=path) as peer:
        assert peer.lab.configuration(MISSING).reported == {"a": "1"}
        await peer.lab.deploy_configuration(MISSING, VALUES)
        assert [item.configuration for item in peer.lab.deployments()] == [None, VALUES]
    async with start(db=path) as peer:
        assert peer.lab.configuration(MISSING).configured == VALUES

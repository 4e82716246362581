"""A deployment, step by step as the real clients report it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp.test_utils import RawTestServer

from mtls_ambassador.lab.device import (
    AUTH_REQUESTS,
    CONFIGURATION,
    DEPLOYMENTS,
    INVENTORY,
    Download,
    SimulatedDevice,
)
from mtls_ambassador.lab.installation import (
    Artifacts,
    InstallationError,
    Instructions,
    install,
    read_configuration,
    read_instructions,
)
from mtls_ambassador.lab.server.configuration_artifact import configuration_artifact
from mtls_ambassador.lab.transport import RefusedError
from tests.unit.lab.device_api import ARTIFACT, DeviceApi, credentials, device_of
from tests.unit.lab.server.artifact import artifact, tar

STATUS, LOG = f"PUT {DEPLOYMENTS}/d-1/status", f"PUT {DEPLOYMENTS}/d-1/log"


def offered(url: str) -> dict[str, Any]:
    return {"id": "d-1", "artifact": {"artifact_name": "release-2", "source": {"uri": f"{url}/artifact"}}}


class Scene:
    def __init__(self, api: DeviceApi, device: SimulatedDevice) -> None:
        self.api = api
        self.device = device
        self.artifacts = Artifacts()

    async def install(self) -> None:
        await install(self.device, offered(self.device.server_url), self.artifacts)

    def reported(self) -> list[str]:
        calls = zip(self.api.seen, self.api.bodies, strict=True)
        return [body["status"] for call, body in calls if call == STATUS]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    api = DeviceApi()
    async with (
        RawTestServer(api) as server,
        device_of(str(server.make_url("")).rstrip("/"), credentials()) as device,
    ):
        await device.authenticate()
        yield Scene(api, device)


async def test_reports_each_step_and_authenticates_before_the_commit(scene: Scene) -> None:
    await scene.install()
    assert scene.api.seen[1:] == [
        STATUS,
        "GET /artifact",
        STATUS,
        f"POST {AUTH_REQUESTS}",
        STATUS,
        STATUS,
        f"PUT {INVENTORY}",
    ]
    assert scene.reported() == ["downloading", "installing", "installing", "success"]
    assert {"name": "artifact_name", "value": "release-2"} in scene.api.bodies[-1]
    assert scene.artifacts.counts == {"release-2": 1}
    assert scene.artifacts.downloads["release-2"].length == len(ARTIFACT)


async def test_a_configuration_is_reported_at_the_end(scene: Scene) -> None:
    scene.api.once("GET /artifact", 200, configuration_artifact("release-2", "simulated", '{"timezone":"UTC"}'))
    scene.api.once(f"PUT {CONFIGURATION}", 204)
    await scene.install()
    assert scene.reported()[-1] == "success"
    assert (scene.api.seen[-1], scene.api.bodies[-1]) == (f"PUT {CONFIGURATION}", {"timezone": "UTC"})
    assert scene.artifacts.counts == {}


async def test_a_configuration_that_the_server_does_not_want(scene: Scene) -> None:
    scene.api.once("GET /artifact", 200, configuration_artifact("release-2", "simulated", "{}"))
    scene.api.once(f"PUT {CONFIGURATION}", 500)
    with pytest.raises(RefusedError, match="the configuration was refused: 500"):
        await scene.install()


async def test_nothing_of_a_large_artifact_is_kept(scene: Scene) -> None:
    for size in (256 * 1024, 256 * 1024 + 1):
        scene.api.once("GET /artifact", 200, b"x" * size)
    url = f"{scene.device.server_url}/artifact"
    (small, kept), (large, nothing) = [await scene.device.download(url) for _ in range(2)]
    assert (small.length, len(kept)) == (256 * 1024, 256 * 1024)
    assert (large.length, nothing) == (256 * 1024 + 1, b"")


async def test_a_configuration_that_cannot_be_read_is_a_failure(scene: Scene) -> None:
    scene.api.once("GET /artifact", 200, configuration_artifact("release-2", "simulated", "x"))
    with pytest.raises(InstallationError, match="holds no configuration"):
        await scene.install()
    assert scene.reported() == ["downloading", "failure"]


async def test_a_download_that_fails_is_reported(scene: Scene) -> None:
    scene.api.once("GET /artifact", 403)
    with pytest.raises(RefusedError, match="the download was refused: 403"):
        await scene.install()
    assert scene.reported() == ["downloading", "failure"]
    assert scene.api.seen[-1] == LOG
    (message,) = scene.api.bodies[-1]["messages"]
    assert message["level"] == "error"
    assert "403" in message["message"]


@pytest.mark.parametrize("content", [ARTIFACT[:-1] + b"x", ARTIFACT + b"x", b"x" * 4095], ids=["other", "more", "tiny"])
async def test_another_artifact_than_the_first_device_got(scene: Scene, content: bytes) -> None:
    await scene.install()
    scene.api.once("GET /artifact", 200, content)
    with pytest.raises(InstallationError):
        await scene.install()
    assert scene.reported()[-1] == "failure"


async def test_an_aborted_deployment_ends_there(scene: Scene) -> None:
    scene.api.once(STATUS, 409, {"error": "Deployment aborted"})
    with pytest.raises(RefusedError, match="409 Deployment aborted"):
        await scene.install()
    assert "GET /artifact" not in scene.api.seen


def test_reads_instructions() -> None:
    assert read_instructions(offered("https://m")) == Instructions("d-1", "release-2", "https://m/artifact")
    nameless = {"id": "d", "artifact": {"source": {"uri": "http://m"}}}
    assert read_instructions(nameless) == Instructions("d", "", "http://m")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"id": "d"},
        {"id": 7, "artifact": {"source": {"uri": "http://m"}}},
        {"id": "d", "artifact": []},
        {"id": "d", "artifact": {}},
        {"id": "d", "artifact": {"source": {}}},
        {"id": "d", "artifact": {"source": {"uri": ""}}},
    ],
)
def test_instructions_that_are_none(content: Mapping[str, Any]) -> None:
    with pytest.raises(InstallationError, match="lack"):
        read_instructions(content)


@pytest.mark.parametrize(
    "url", ["/artifact", "m", "ftp://m/a", "http://m:80a/", "http://m:99999/", "http://[::1", "https://"]
)
def test_links_that_lead_nowhere(url: str) -> None:
    with pytest.raises(InstallationError, match="cannot download from"):
        read_instructions({"id": "d", "artifact": {"source": {"uri": url}}})


def test_artifacts_are_compared_by_name() -> None:
    artifacts = Artifacts()
    artifacts.check("a", Download(5000, "1"))
    artifacts.check("b", Download(5000, "2"))
    with pytest.raises(InstallationError, match="the artifact a did not arrive"):
        artifacts.check("a", Download(5000, "2"))
    assert artifacts.counts == {"a": 1, "b": 1}


def test_reads_configurations() -> None:
    assert read_configuration(configuration_artifact("n", "lab", '{"a":"1"}')) == {"a": "1"}
    assert read_configuration(configuration_artifact("n", "lab", "{}")) == {}


@pytest.mark.parametrize("content", [b"", b"x" * 5000, artifact(), artifact(compression=""), tar({"header.tar": b"x"})])
def test_other_artifacts_hold_no_configuration(content: bytes) -> None:
    assert read_configuration(content) is None


@pytest.mark.parametrize("metadata", ["", "x", "[]", "1"])
def test_configurations_that_are_none(metadata: str) -> None:
    with pytest.raises(InstallationError, match="holds no configuration"):
        read_configuration(configuration_artifact("n", "lab", metadata))

"""The real client takes a configuration through the real edge: its own module gets what the operator wrote.

mender-configure is not among Debian's packages, so a program of a few lines stands for that module.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtls_ambassador.lab.server.configuration_artifact import configuration_artifact
from tests.e2e.mender_operator import Operator
from tests.e2e.mender_peer import seed_client
from tests.world import eventually, world

_VALUES = {"timezone": "Europe/Oslo", "greeting": "<ä> & so on"}
_MODULE = b"""#!/bin/sh
case "$1" in
    NeedsArtifactReboot) echo No ;;
    SupportsRollback) echo Yes ;;
    ArtifactInstall) cp "$2/header/meta-data" /var/lib/mender/configured.json ;;
esac
"""


@pytest.mark.needs("mender", "unshare")
async def test_configuration(tmp_path: Path) -> None:
    async with world(tmp_path / "world") as w:
        holder = w.ca.device("device")
        client = seed_client(
            tmp_path / "client",
            port=w.edge.port,
            trust=[w.directory / "ca.pem"],
            certificate=holder.pem,
            key=holder.key_pem,
            identity={"mac": "52:54:00:00:00:01"},
            modules={"mender-configure": _MODULE},
        )
        async with client:
            await eventually(lambda: any(device.inventory for device in w.lab.devices()), 30)
            (device,) = w.lab.devices()
            deployment_id = await w.lab.deploy_configuration(device.id, _VALUES)
            await eventually(lambda: w.lab.deployments()[0].status == "finished", 60)
            assert w.lab.deployments()[0].devices == {device.id: "success"}, client.log_text()
            assert json.loads((client.state / "configured.json").read_text()) == _VALUES
            link = f"https://my-server.com:{w.edge.port}/api/devices/v1/deployments/download/configuration/"
            assert f"{link}{deployment_id}/lab/{device.id}" in client.log_text()


@pytest.mark.needs("mender-artifact")
@pytest.mark.parametrize("configuration", ['{"a":"1"}', "{}"])
async def test_the_artifact_is_one_to_mender_artifact(tmp_path: Path, configuration: str) -> None:
    file = tmp_path / "configuration.mender"
    file.write_bytes(configuration_artifact("configuration-1", "lab", configuration))
    operator = Operator(tmp_path, "")
    await operator.inspect("validate", file)
    said = await operator.inspect("read", file)
    for text in ("Name: configuration-1", "mender-configure", "data-partition.mender-configure.*"):
        assert text in said

"""Image, compose file and systemd unit promise what the product does; without their engines, so in namespaces."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtls_ambassador.cli.main import WRONG_USAGE
from mtls_ambassador.config.settings import SECRET_KEYS, Settings
from mtls_ambassador.config.sources import KNOWN_KEYS
from tests.container import DOCKER_RUN, NOBODY, Image, Run

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "mtls-ambassador.service"
MATERIAL = ("server_cert", "server_key", "tenant_ca_pem")


@pytest.mark.needs("root", "openssl", "setpriv", "unshare")
@pytest.mark.parametrize("package", ["container", "compose", "systemd_unit"])
async def test_run_in_namespaces(tmp_path: Path, package: str) -> None:
    """The document's `docker run` line; the compose file's services; the unit's command."""
    process = await asyncio.create_subprocess_exec(
        "unshare", "--net", sys.executable, "-m", f"tests.{package}", str(tmp_path / "documents"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


def test_the_document_mounts_files_where_the_edge_looks_for_them() -> None:
    run = Run.read(DOCKER_RUN, Path("/here"), {})
    assert {bind.target for bind in run.binds} == {str(Settings.model_fields[key].default) for key in MATERIAL}
    assert run.ports == [f"443:{Settings.model_fields['listen'].default.port}"]


def test_the_image() -> None:
    image = Image.read()
    assert image.user == f"{NOBODY}:{NOBODY}"
    assert image.entrypoint == ["mtls-ambassador"]
    assert image.environment["MTLS_HEALTH_LISTEN"] == "0.0.0.0:8081"
    assert image.ports == {"8080", "8081"}
    assert settings_in(image.environment) <= set(KNOWN_KEYS)


def test_the_image_installs_only_what_is_pinned() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    installs = [line for line in dockerfile.splitlines() if '"install", "--' in line and "pip" in line]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or ("--no-index" in line and "--no-deps" in line)
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name


def test_compose() -> None:
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    edge, mender = content["services"]["edge"], content["services"]["mender"]
    assert settings_in(edge["environment"]) <= set(KNOWN_KEYS)
    targets = {volume["target"] for volume in edge["volumes"] if isinstance(volume, dict)}
    assert targets == {str(Settings.model_fields[key].default) for key in MATERIAL}
    assert f"state:{Image.read().environment['MTLS_STATE_DIR']}" in edge["volumes"]
    (port,) = re.findall(r"\d+$", edge["environment"]["MTLS_MENDER_BACKEND"])
    # In the file's header as well.
    assert mender["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"http://127.0.0.1:{port}/" in (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    for service in (edge, mender):
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert float(edge["stop_grace_period"].rstrip("s")) > Settings.model_fields["shutdown_grace"].default


def test_the_unit_stops_and_restarts_the_edge_as_it_should_be() -> None:
    (restart,) = unit("RestartPreventExitStatus")
    assert int(restart) == WRONG_USAGE
    # Envoy would end at once if systemd sent it the signal too.
    assert unit("KillMode") == ["mixed"]
    assert float(unit("TimeoutStopSec")[0]) > Settings.model_fields["shutdown_grace"].default
    environment = dict(line.split("=", 1) for line in unit("Environment"))
    assert settings_in(environment) <= {*KNOWN_KEYS, *(f"{key}_file" for key in SECRET_KEYS)}
    credentials = {line.partition(":")[0] for line in unit("LoadCredential")}
    assert {value.removeprefix("%d/") for value in environment.values()} == credentials


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    (program, *_) = unit("ExecStart")[0].split()
    # It looks for the program too, which is not installed there.
    copy.write_text(UNIT.read_text(encoding="utf-8").replace(program, sys.executable), encoding="utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def settings_in(environment: Any) -> set[str]:
    """The settings that variables of an environment give."""
    return {name.removeprefix("MTLS_").lower() for name in environment if name.startswith("MTLS_")}


def unit(key: str) -> list[str]:
    """All values of a key in the unit."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)

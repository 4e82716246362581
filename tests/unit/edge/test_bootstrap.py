"""`edge.bootstrap`: the whole of it, golden; and what must hold for any settings."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from mtls_ambassador.edge.admin import EnvoyAdmin
from mtls_ambassador.edge.bootstrap import render_bootstrap, to_json
from mtls_ambassador.edge.secrets import render_device_trust, render_server_secret
from tests.unit.edge.plans import CA, DIRECTORY, GOLDENS, LINE, SERVER, VARIANTS, assert_golden, everything_in, plan

each_variant = pytest.mark.parametrize("variant", VARIANTS)


@each_variant
def test_bootstraps_are_golden(variant: str) -> None:
    assert_golden(variant, render_bootstrap(plan(**VARIANTS[variant])))


def test_every_golden_has_a_variant() -> None:
    assert {file.stem for file in GOLDENS.iterdir()} == {*VARIANTS, "server_secret", "device_trust"}


@each_variant
def test_no_private_key_and_no_secret_is_in_any_file(variant: str) -> None:
    chosen = plan(**VARIANTS[variant])
    rendered = b"".join(
        to_json(render(chosen)) for render in (render_bootstrap, render_server_secret, render_device_trust)
    )
    assert b"PRIVATE KEY" not in rendered
    assert b"hunter2" not in rendered
    for holder in (CA, LINE, SERVER):
        for line in holder.key_pem.decode().splitlines()[1:-1]:
            assert line.encode() not in rendered


@each_variant
def test_certificates_stay_out_of_the_bootstrap(variant: str) -> None:
    assert b"CERTIFICATE-----" not in to_json(render_bootstrap(plan(**VARIANTS[variant])))


@each_variant
def test_sockets_are_for_their_owner_only(variant: str) -> None:
    bootstrap = render_bootstrap(plan(**VARIANTS[variant]))
    pipes = [item["pipe"] for item in everything_in(bootstrap) if isinstance(item, dict) and "pipe" in item]
    assert len(pipes) == 3
    listened = [pipe for pipe in pipes if "admission" not in pipe["path"]]
    assert [pipe["mode"] for pipe in listened] == [0o600, 0o600]
    assert all(pipe["path"].startswith(f"{DIRECTORY}/work/") for pipe in pipes)


def test_only_the_devices_port_is_on_the_network() -> None:
    bootstrap = render_bootstrap(plan())
    listeners = bootstrap["static_resources"]["listeners"]
    on_network = [listener["name"] for listener in listeners if "socket_address" in listener["address"]]
    assert on_network == ["edge"]
    assert "pipe" in bootstrap["admin"]["address"]


def test_the_machine_sets_the_limits() -> None:
    connections, heap = render_bootstrap(plan())["overload_manager"]["resource_monitors"]
    assert connections["typed_config"]["max_active_downstream_connections"] == 10_000
    assert heap["typed_config"]["max_heap_size_bytes"] == 2**30


def test_statistics_are_those_that_are_read() -> None:
    patterns = render_bootstrap(plan())["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    recorded = {str(text).rpartition("downstream_")[2] for pattern in patterns for text in pattern.values()} - {"sds."}
    read = set(re.findall(r"(?:downstream_|\")((?:cx|rq|global)_\w+)", inspect.getsource(EnvoyAdmin)))
    assert recorded == read
    assert len(read) == 5


def test_file_sds_needs_a_node() -> None:
    node = render_bootstrap(plan())["node"]
    assert node["id"]
    assert node["cluster"]


def test_files_have_a_stable_order() -> None:
    assert to_json({"b": 1, "a": [True, None]}) == to_json({"a": [True, None], "b": 1})
    assert json.loads(to_json({"b": 1, "a": "ü"})) == {"a": "ü", "b": 1}
    assert to_json({}).endswith(b"\n")

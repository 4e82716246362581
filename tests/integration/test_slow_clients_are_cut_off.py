"""A client with a good certificate cannot hold a connection for ever: every phase of it has a time-out.

They are too long to wait for, so this reads them from the configuration that Envoy runs with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.world import World, world


def running_configuration(w: World) -> dict[str, Any]:
    """The bootstrap that Envoy was started with."""
    command = Path(f"/proc/{w.edge.envoy_pid}/cmdline").read_bytes().split(b"\0")
    content = json.loads(Path(command[command.index(b"--config-path") + 1].decode()).read_text())
    assert isinstance(content, dict)
    return content


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


async def test_every_phase_has_a_time_out(tmp_path: Path) -> None:
    async with world(tmp_path, handshake_timeout="7s") as w:
        listeners = running_configuration(w)["static_resources"]["listeners"]
        (edge,) = [listener for listener in listeners if listener["name"] == "edge"]
        (chain,) = edge["filter_chains"]
        assert seconds(chain["transport_socket_connect_timeout"]) == 7
        http = chain["filters"][0]["typed_config"]
        assert 5 <= seconds(http["request_headers_timeout"]) <= 60
        assert 60 <= seconds(http["stream_idle_timeout"]) <= 600
        # A Go client polls every half hour on one connection.
        assert 1800 < seconds(http["common_http_protocol_options"]["idle_timeout"]) <= 3600
        for host in http["route_config"]["virtual_hosts"]:
            for route in host["routes"]:
                if "route" in route:
                    assert seconds(route["route"]["idle_timeout"]) > 0
                    if route["match"].get("path") == AUTH_REQUESTS:
                        assert 0 < seconds(route["route"]["timeout"]) <= 120
                    else:
                        assert seconds(route["route"]["timeout"]) == 0  # artifacts may take hours

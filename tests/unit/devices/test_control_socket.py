"""The control socket's place: private, taken back from the dead, never from the living."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from mtls_ambassador.devices.control_socket import control_socket, serve_operators
from mtls_ambassador.devices.sources import RunningEdge


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"15")]})
    await send({"type": "http.response.body", "body": b'{"kind": "yes"}'})


async def ask(path: Path) -> list[Any]:
    return await asyncio.to_thread(lambda: list(RunningEdge(path).show("x")))


async def test_it_is_private_and_goes_with_the_edge(tmp_path: Path) -> None:
    path = control_socket(tmp_path / "state")
    async with serve_operators(app, tmp_path / "state"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert await ask(path) == [{"kind": "yes"}]
    assert not path.exists()
    assert not RunningEdge(path).answers


async def test_a_dead_edges_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(control_socket(tmp_path)))
    async with serve_operators(app, tmp_path):
        assert await ask(control_socket(tmp_path)) == [{"kind": "yes"}]


async def test_a_living_edges_socket_is_not(tmp_path: Path) -> None:
    async with serve_operators(app, tmp_path):
        with capture_logs() as log:
            async with serve_operators(None, tmp_path):
                pass
        assert "another edge with the state directory" in log[0]["event"]
        assert await ask(control_socket(tmp_path)) == [{"kind": "yes"}]


async def test_where_there_can_be_none_the_edge_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for state, words in ((tmp_path / ("x" * 107), "too long for a socket"), (tmp_path / "file", "File exists")):
        with capture_logs() as log:
            async with serve_operators(app, state):
                pass
        (told,) = log
        assert words in told["event"]
        assert told["remedy"]
        assert told["log_level"] == "warning"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

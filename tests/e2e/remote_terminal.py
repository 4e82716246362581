"""What a user does on a device by way of the real mender-connect."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from mtls_ambassador.lab.messages import FILE_TRANSFER, MENDER_CLIENT, PORT_FORWARD, SHELL
from mtls_ambassador.lab.remote_session import DeviceRefused, RemoteSession

CONNECT_CONF = {"ShellCommand": "/bin/sh", "ShellArguments": [], "User": "root", "ReconnectIntervalSeconds": 1}
"""mender-connect.conf."""


async def shell_answers(open_session: Callable[[], AbstractAsyncContextManager[RemoteSession]]) -> None:
    """Have a shell of the device calculate, with a new session for each try.

    mender-connect 2.1 starts what reads a shell's terminal before it says that this shall run (shell/exec.go, Start):
    about one shell in ten stays mute.
    """
    for _ in range(8):
        async with open_session() as session:
            assert await session.open() == {SHELL, FILE_TRANSFER, PORT_FORWARD, MENDER_CLIENT}
            await session.start_shell(width=100, height=30)
            await session.type(b"echo $((6*7))\n")
            try:
                async with asyncio.timeout(3):
                    shown = await session.output_until(b"42\r\n")
            except TimeoutError:
                continue
            assert b"echo $((6*7))" in shown
            await session.type(b"stty size\n")
            await session.output_until(b"30 100\r\n")
            await session.stop_shell()
            await session.close()
            return
    raise AssertionError("no shell of the device says anything")


async def until_there(session: RemoteSession, path: str) -> None:
    """Wait for an uploaded file: its end is acknowledged before it is in its place."""
    for _ in range(500):
        with contextlib.suppress(DeviceRefused):
            await session.file_info(path)
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} did not come")


async def files_pass(open_session: Callable[[], AbstractAsyncContextManager[RemoteSession]]) -> None:
    """Send a file to the device, and fetch it again."""
    content = random.Random(1).randbytes(1_000_001)
    async with open_session() as session:
        await session.open()
        await session.upload("/tmp/there.bin", content, mode=0o640)
        await session.close()
    async with open_session() as session:
        await session.open()
        await until_there(session, "/tmp/there.bin")
        info = await session.file_info("/tmp/there.bin")
        assert (info["size"], info["mode"]) == (len(content), 0o640)
        assert await session.download("/tmp/there.bin") == content
        with pytest.raises(DeviceRefused, match="no such file"):
            await session.download("/tmp/nowhere")
        await session.close()

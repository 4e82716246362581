"""With as many devices as the edge lets in, all of them busy at once, Envoy never runs out of file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from mtls_ambassador.edge.machine import capacity, processors
from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import request
from tests.certificates import CertificateAuthority
from tests.edge_process import PROGRAM, EdgeProcess
from tests.world import edge_environment, eventually, write_settings_files

FILES = 1024
POLL = "/api/devices/v1/deployments/device/deployments/next"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PatientMender:
    """Answers what devices ask only when it is let go, and everything else at once."""

    def __init__(self) -> None:
        self.waiting = 0
        self.go = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = next((int(x[15:]) for x in head.split("\r\n") if x.startswith("content-length:")), 0)
                await reader.readexactly(length)
                status = 201
                if "/api/devices/" in head:
                    self.waiting += 1
                    await self.go.wait()
                    self.waiting -= 1
                    status = 200
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())


async def test_the_busiest_edge(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com"))
    mender, room = PatientMender(), capacity(FILES, processors())
    upstream = await asyncio.start_server(mender.serve, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    environment = edge_environment(tmp_path, f"http://127.0.0.1:{port}", files, mender_token="x.y.z")
    del environment["MTLS_MENDER_USER"], environment["MTLS_MENDER_PASS"]
    limited = ("sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *PROGRAM)
    async with upstream, EdgeProcess(environment, directory=tmp_path, command=limited) as edge:
        (envoy,) = edge.envoy_pids()
        async with connections(edge.port, ca, tmp_path) as devices:
            assert len(devices) == room.connections
            for (_, writer), body in devices:
                writer.write(body)
            assert 4 * len(devices) > FILES  # were they all under way at once, they would need more
            await eventually(lambda: mender.waiting == room.auth_requests, 60)
            assert open_files(envoy) < FILES
            mender.go.set()
            auth = [await status(reader) for (reader, _), _ in devices]
            assert auth == [200] * len(devices)
            mender.go.clear()
            for (_, writer), _ in devices:
                writer.write(request("GET", POLL, [("Connection", "keep-alive")]))
            await eventually(lambda: mender.waiting == len(devices), 60)
            assert open_files(envoy) < FILES
            mender.go.set()
            assert [await status(reader) for (reader, _), _ in devices] == [200] * len(devices)
        assert "Too many open files" not in edge.log_text()


@contextlib.asynccontextmanager
async def connections(
    port: int, ca: CertificateAuthority, directory: Path
) -> AsyncIterator[list[tuple[Connection, bytes]]]:
    """As many devices as get in, and the auth request of each."""
    devices: list[tuple[Connection, bytes]] = []
    try:
        while True:
            holder = ca.device(f"dev-{len(devices)}")
            context = ssl.create_default_context(cadata=ca.pem.decode())
            context.load_cert_chain(*holder.write(directory, "device"))
            try:
                opened = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="my-server.com")
            except OSError:
                break
            signed = auth_request(holder.key, {"mac": f"{len(devices)}"})
            headers = [*signed.headers.items(), ("Connection", "keep-alive")]
            devices.append((opened, request("POST", AUTH_REQUESTS, headers, signed.body)))
        yield devices
    finally:
        for (_, writer), _ in devices:
            writer.close()


def open_files(pid: int) -> int:
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def status(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, which has a Content-Length of 0 or none."""
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 0\r\n" in head.lower()
    return int(head.split()[1])

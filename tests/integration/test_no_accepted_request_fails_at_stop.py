"""SIGTERM under load: every connection that was made is served; only new ones are refused."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections import Counter
from pathlib import Path

from mtls_ambassador.lab.server import LabServer, LabSettings, parse_fault
from tests.certificates import CertificateAuthority
from tests.edge_process import EdgeProcess
from tests.world import PASSWORD, USER, edge_environment, eventually, write_settings_files

_REQUEST = b"GET /api/devices/v1/deployments/device/deployments/next HTTP/1.1\r\nHost: my-server.com\r\n\r\n"


async def _one_connection_after_another(port: int, context: ssl.SSLContext, counts: Counter[str]) -> None:
    """As a C++ client: a new connection for each request; ends when connections are refused."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return
        try:
            await writer.start_tls(context, server_hostname="my-server.com")
            writer.write(_REQUEST)
            answer = await reader.readuntil(b"\r\n")
            counts["answered" if b" 401 " in answer else "odd"] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            counts[f"failed: {error!r}"] += 1
        finally:
            writer.close()


async def _keep_alive(port: int, context: ssl.SSLContext, counts: Counter[str]) -> None:
    """As the Go client: one connection; ends when the edge says `Connection: close`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="my-server.com")
    try:
        while True:
            writer.write(_REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            counts["answered"] += 1
            if b"connection: close" in head.lower():
                return
    except (OSError, asyncio.IncompleteReadError) as error:
        counts[f"failed: {error!r}"] += 1
    finally:
        writer.close()


async def test_no_accepted_request_fails_at_stop(tmp_path: Path) -> None:
    ca = CertificateAuthority()
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com", san=["DNS:my-server.com"]))
    certificate, key = ca.device("device").write(tmp_path, "device")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / "ca.pem")
    context.load_cert_chain(certificate, key)
    counts: Counter[str] = Counter()
    async with (
        LabServer(LabSettings(user=USER, password=PASSWORD)) as lab,
        EdgeProcess(edge_environment(tmp_path, lab.url, files, shutdown_grace="10s"), directory=tmp_path) as edge,
    ):
        # One that takes long, begun before the signal, on the path of auth requests through Python.
        lab.faults = (parse_fault("latency=2s,path=/api/devices/v1/inventory"),)
        slow = asyncio.create_task(_slow(edge.port, context))
        await eventually(lambda: edge.port)
        load = [asyncio.create_task(_one_connection_after_another(edge.port, context, counts)) for _ in range(8)]
        load += [asyncio.create_task(_keep_alive(edge.port, context, counts)) for _ in range(8)]
        await eventually(lambda: counts["answered"] > 300, 30)

        edge.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*load)
        assert b" 401 " in await slow
        assert await edge.process.wait() == 0
    assert set(counts) == {"answered"}, counts


async def _slow(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="my-server.com")
    body = b"[]"
    writer.write(
        b"PUT /api/devices/v1/inventory/device/attributes HTTP/1.1\r\nHost: my-server.com\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    try:
        return await reader.readuntil(b"\r\n")
    finally:
        writer.close()

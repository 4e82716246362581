"""SIGTERM under load: every connection that was made is served; only new ones are refused."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections import Counter
from pathlib import Path

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from mtls_ambassador.lab.server import LabServer, LabSettings, parse_fault
from tests.attempts import attempt, request
from tests.certificates import CertificateAuthority
from tests.edge_process import EdgeProcess
from tests.relay import Relay
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
    device = ca.device("device")
    certificate, key = device.write(tmp_path, "device")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / "ca.pem")
    context.load_cert_chain(certificate, key)
    counts: Counter[str] = Counter()
    authentication = auth_request(device.key, {"mac": "52:54:00:00:00:01"})
    # Envoy and the admission service answer the one, Envoy alone the other.
    lasting = [
        request("POST", AUTH_REQUESTS, authentication.headers.items(), authentication.body),
        request("PUT", INVENTORY, [("Content-Type", "application/json")], b"[]"),
    ]
    async with (
        LabServer(LabSettings(user=USER, password=PASSWORD)) as lab,
        Relay(lab.port) as relay,
        EdgeProcess(
            edge_environment(tmp_path, f"http://127.0.0.1:{relay.port}", files, shutdown_grace="10s"),
            directory=tmp_path,
        ) as edge,
    ):
        load = [asyncio.create_task(_one_connection_after_another(edge.port, context, counts)) for _ in range(8)]
        load += [asyncio.create_task(_keep_alive(edge.port, context, counts)) for _ in range(8)]
        await eventually(lambda: counts["answered"] > 300, 30)
        lab.faults = tuple(parse_fault(f"latency=3s,path={path}") for path in (AUTH_REQUESTS, INVENTORY))
        slow = [asyncio.create_task(attempt(edge.port, data, context)) for data in lasting]
        # Mender has them and takes its time.
        await eventually(lambda: {("POST", AUTH_REQUESTS), ("PUT", INVENTORY)} <= set(relay.requests()))
        assert not any(task.done() for task in slow)

        edge.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*load)
        assert [(await task).answer.status for task in slow] == [200, 401]
        assert await edge.process.wait() == 0
    assert set(counts) == {"answered"}, counts

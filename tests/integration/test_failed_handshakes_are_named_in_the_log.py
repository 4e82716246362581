"""A handshake that fails for another reason than the client's certificate is told in one line that names the reason."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from tests.attempts import attempt, log_field, request
from tests.certificates import CertificateAuthority
from tests.world import World, eventually, world

STATUS = request("GET", "/status")
# A TLS record that announces 512 bytes of a ClientHello, and a few of them.
HALF_A_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(16)
RESET = b"\x01\0\0\0\0\0\0\0"  # of SO_LINGER: closing sends a reset instead of an end
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


async def expect(w: World, address: str, reason: str) -> None:
    """There is one line about this client, it names `reason`, and Mender has seen nothing."""
    await eventually(lambda: w.log_lines(f"{address}:"))
    (line,) = w.log_lines(f"{address}:")
    assert log_field(line, "reason") == reason, line
    assert line.split()[1] == "warning"
    assert w.relay.device_requests() == []


async def test_too_old_a_version(tmp_path: Path) -> None:
    async with world(tmp_path, tls_min_version="1.3") as w:
        device = w.ca.device("dev-1")
        old, new = await asyncio.gather(
            *(attempt(w.edge.port, STATUS, w.client_context(device, version=version)) for version in VERSIONS)
        )
        assert new.answer.status == 200
        assert isinstance(old.error, ssl.SSLError)
        assert "PROTOCOL_VERSION" in str(old.error)
        await expect(w, old.address, "protocol_version")


async def test_other_protocols(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        http, proxy, ssh, noise = await asyncio.gather(
            *(
                attempt(w.edge.port, data, None)
                for data in (STATUS, b"CONNECT a:443 HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(50))
            )
        )
        for tried in (http, proxy, ssh, noise):
            assert not tried.data.startswith(b"HTTP/")
        await expect(w, http.address, "plain_http")
        await expect(w, proxy.address, "plain_http")
        await expect(w, ssh.address, "not_tls")
        await expect(w, noise.address, "not_tls")


async def test_devices_that_do_not_trust_the_server(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        device = w.ca.device("dev-1")
        other_ca = CertificateAuthority("Other CA").pem.decode()

        def shake_hands(context: ssl.SSLContext, name: str) -> str:
            # Not asyncio, which on a failure hangs up without the alert that every other client sends.
            with socket.create_connection(("127.0.0.1", w.edge.port)) as connection:
                address = "{}:{}".format(*connection.getsockname())
                with pytest.raises(ssl.SSLCertVerificationError):
                    context.wrap_socket(connection, server_hostname=name)
                return address

        for version in VERSIONS:
            context = w.client_context(device, version=version)
            await expect(w, await asyncio.to_thread(shake_hands, context, "another-name.com"), "server_not_trusted")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = context.maximum_version = version
            context.load_verify_locations(cadata=other_ca)
            context.load_cert_chain(*device.write(tmp_path, "stranger"))
            await expect(w, await asyncio.to_thread(shake_hands, context, "my-server.com"), "server_not_trusted")


async def test_no_common_cipher(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        context = w.client_context(w.ca.device("dev-1"), version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers("DHE-RSA-AES128-GCM-SHA256")
        tried = await attempt(w.edge.port, STATUS, context)
        assert isinstance(tried.error, ssl.SSLError)
        await expect(w, tried.address, "no_common_cipher")


async def test_handshakes_that_take_too_long(tmp_path: Path) -> None:
    async with world(tmp_path, handshake_timeout="0.5s") as w:
        device = w.client_context(w.ca.device("dev-1"))
        silent, slow, good = await asyncio.gather(
            attempt(w.edge.port, b"", None),
            attempt(w.edge.port, HALF_A_HELLO, None),
            attempt(w.edge.port, STATUS, device),
        )
        assert good.answer.status == 200
        await expect(w, silent.address, "handshake_timeout")
        await expect(w, slow.address, "handshake_timeout")
        # The time runs for the handshake alone: an open connection may then be idle for longer.
        idle = await asyncio.open_connection("127.0.0.1", w.edge.port, ssl=device, server_hostname="my-server.com")
        late = await attempt(w.edge.port, b"", None)
        assert late.data == b""
        idle[1].write(STATUS)
        assert (await idle[0].readline()).startswith(b"HTTP/1.1 200 ")
        idle[1].close()
        await idle[1].wait_closed()


async def test_clients_that_leave(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        connection = socket.create_connection(("127.0.0.1", w.edge.port))
        address = "{}:{}".format(*connection.getsockname())
        connection.sendall(HALF_A_HELLO)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
        await expect(w, address, "client_left")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_connection_that_breaks_later_is_no_failed_handshake(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with world(tmp_path) as w:
        device = w.client_context(w.ca.device("dev-1"), version=version)

        def be_cut_off() -> str:
            with socket.create_connection(("127.0.0.1", w.edge.port)) as connection:
                address = "{}:{}".format(*connection.getsockname())
                with device.wrap_socket(connection, server_hostname="my-server.com") as tls:
                    tls.sendall(b"GET /status HTTP/1.1\r\nHost: my-server.com\r\n\r\n")
                    assert tls.recv(1000).startswith(b"HTTP/1.1 200 ")
                    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return address

        cut_off = await asyncio.to_thread(be_cut_off)
        later = await attempt(w.edge.port, b"", w.client_context(None))
        await expect(w, later.address, "no_certificate")
    assert w.log_lines(f"{cut_off}:") == []

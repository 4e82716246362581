"""Every connection is a full handshake, in which the certificate is verified: sessions are not resumed.

A resumed session would skip the look at the certificate's dates, and its revocation.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from tests.attempts import request
from tests.world import world


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_are_not_resumed(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with world(tmp_path) as w:
        context = w.client_context(w.ca.device("dev-1"), version=version)

        def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection(("127.0.0.1", w.edge.port), timeout=20) as connection,
                context.wrap_socket(connection, server_hostname="my-server.com", session=session) as tls,
            ):
                tls.sendall(request("GET", "/status"))  # in TLS 1.3 a ticket would come with the answer
                assert tls.recv(4096).startswith(b"HTTP/1.1 200 ")
                assert tls.version() == version.name.replace("_", ".")
                return tls.session, tls.session_reused

        session: ssl.SSLSession | None = None
        for _ in range(3):
            session, reused = await asyncio.to_thread(connect, session)
            assert reused is False
            assert session is None or not session.has_ticket

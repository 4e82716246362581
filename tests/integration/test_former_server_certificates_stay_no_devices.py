"""A server certificate that an earlier run of the edge used is no device's after a restart with a new one either."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.attempts import attempt, request
from tests.certificates import CertificateAuthority
from tests.world import world


async def test_former_server_certificates_stay_no_devices(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    old, new = (ca.server("my-server.com", eku=None) for _ in range(2))
    async with world(tmp_path, ca=ca, server=old):
        pass
    async with world(tmp_path, ca=ca, server=new) as w:
        status = request("GET", "/status")
        tried = await asyncio.gather(
            *(attempt(w.edge.port, status, w.client_context(holder)) for holder in (old, new, ca.device("dev-1")))
        )
        assert [one.answer.status for one in tried] == [403, 403, 200]

"""The lab's Mender Server is Mender to the real mender-connect, without an edge: terminal, and files both ways."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import CertificateAuthority
from tests.e2e.mender_operator import Operator
from tests.e2e.mender_peer import seed_client
from tests.e2e.remote_terminal import CONNECT_CONF, files_pass, shell_answers, until_there
from tests.world import PASSWORD, USER, eventually

# mender-connect calls setgroups for a shell, which a user's namespace forbids.
pytestmark = pytest.mark.needs("root", "mender", "mender-connect", "mender-cli", "dbus-daemon", "unshare")


async def test_terminal_and_files(tmp_path: Path) -> None:
    ca = CertificateAuthority("My CA")
    holder = ca.device("device")
    trust = tmp_path / "ca.pem"
    trust.write_bytes(ca.pem)
    tls = ca.server("my-server.com", san=["DNS:my-server.com", "DNS:localhost"]).write(tmp_path, "server")
    async with LabServer(LabSettings(user=USER, password=PASSWORD), tls=tls) as lab:
        client = seed_client(
            tmp_path / "client",
            port=lab.port,
            trust=[trust],
            certificate=holder.pem,
            key=holder.key_pem,
            identity={"mac": "52:54:00:00:00:01"},
            connect=CONNECT_CONF,
        )
        async with client:
            await eventually(lab.devices, 30)
            (device,) = lab.devices()
            lab.set_status(device.id, device.auth_sets[0].id, "accepted")
            try:
                await eventually(lambda: lab.connected(device.id), 40)
            except AssertionError as error:
                raise AssertionError(f"{client.log_text()}\n{client.connect_log_text()}") from error
            await shell_answers(lambda: lab.session(device.id))
            await files_pass(lambda: lab.session(device.id))

            # The same by the real mender-cli, with a name that is none in ASCII.
            operator = Operator(tmp_path, f"https://localhost:{lab.port}", trust)
            await operator.log_in()
            sent, fetched = tmp_path / "sent.bin", tmp_path / "fetched.bin"
            sent.write_bytes(random.Random(2).randbytes(300_000))
            there = "/tmp/журнал.bin"
            await operator.copy(sent, f"{device.id}:{there}")
            async with lab.session(device.id) as session:
                await session.open()
                await until_there(session, there)
                await session.close()
            await operator.copy(f"{device.id}:{there}", fetched)
            assert fetched.read_bytes() == sent.read_bytes()

"""`device push` to a real sshd; the real Mender client started there from these files is accepted through the edge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtls_ambassador.device.conf import CA, CERTIFICATE, CONFIGURATION, KEY
from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import CertificateAuthority
from tests.edge_process import PROGRAM, EdgeProcess
from tests.ssh_device import PEERS, SshDevice
from tests.world import PASSWORD, USER, edge_environment, eventually, write_settings_files

pytestmark = [pytest.mark.needs(*PEERS), pytest.mark.timeout(300)]


@dataclass
class Ended:
    """How a command ended."""

    status: int | None
    out: str
    err: str


@dataclass
class Bench:
    """A device to push to, and what it shall get."""

    device: SshDevice
    files: Path

    def arguments(self, server_url: str = "https://my-server.com:8080") -> list[str]:
        return [
            *("device", "push", self.device.target, *self.device.options, "--server-url", server_url),
            *("--cert", "device.pem", "--key", "device.key", "--ca", "ca.pem", "--hosts-entry", "127.0.0.1"),
        ]

    async def push(self, *more: str, server_url: str = "https://my-server.com:8080") -> Ended:
        return await self.run(*PROGRAM, *self.arguments(server_url), *more)

    async def run(self, *command: str, directory: Path | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory or self.files,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert b"PRIVATE KEY" not in out + err
        return Ended(process.returncode, out.decode(), err.decode())

    async def state(self) -> str:
        """Every file that a push is about: type, mode, owner, and checksum."""
        return await self.device.run(
            f"stat -c '%n %a %U %F' {CERTIFICATE} {KEY} {CA} {CONFIGURATION} /etc/hosts; "
            f"sha256sum {CERTIFICATE} {KEY} {CA} {CONFIGURATION} /etc/hosts /etc/ssl/certs/ca-certificates.crt; "
            "ls /data/mender /etc/mender /usr/local/share/ca-certificates/mender"
        )


@pytest.fixture
def ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture
async def bench(tmp_path: Path, ca: CertificateAuthority) -> AsyncIterator[Bench]:
    files = tmp_path / "it's here"
    files.mkdir()
    certificate, key = ca.device("device-1").write(files, "device")
    certificate.rename(files / "device.pem")
    key.rename(files / "device.key")
    (files / "ca.pem").write_bytes(ca.pem)
    async with SshDevice(tmp_path / "ssh") as device:
        yield Bench(device, files)


async def test_the_real_client_is_accepted(tmp_path: Path, bench: Bench, ca: CertificateAuthority) -> None:
    files = write_settings_files(tmp_path, ca, ca.server("my-server.com"))
    async with (
        LabServer(LabSettings(user=USER, password=PASSWORD)) as lab,
        EdgeProcess(edge_environment(tmp_path, lab.url, files), directory=tmp_path) as edge,
    ):
        pushed = await bench.push(server_url=f"https://my-server.com:{edge.port}")
        assert (pushed.status, pushed.err) == (0, "")
        await eventually(lambda: any(device.inventory for device in lab.devices()), 60)
        (known,) = lab.devices()
        assert (known.status, known.identity) == ("accepted", {"mac": "52:54:00:12:34:56"})
        assert bench.device.systemctl_calls()[-1] == "restart mender-client.service"
        assert await edge.stop() == 0


async def test_files_have_their_modes_and_a_second_push_changes_nothing(bench: Bench) -> None:
    await bench.device.run(
        f"""echo '{{"Mine": 1, "TenantToken": "t"}}' > {CONFIGURATION}; echo '192.0.2.9 mine' >> /etc/hosts"""
    )
    assert (await bench.push()).status == 0
    first = await bench.state()
    for path, mode in ((CERTIFICATE, 644), (KEY, 600), (CA, 644), (CONFIGURATION, 600)):
        assert f"{path} {mode} root regular file\n" in first
    assert ".new" not in first
    conf = json.loads(await bench.device.run(f"cat {CONFIGURATION}"))
    assert conf == {
        "Mine": 1,
        "TenantToken": "t",
        "ServerURL": "https://my-server.com:8080",
        "ServerCertificate": CA,
        "HttpsClient": {"Certificate": CERTIFICATE, "Key": KEY},
        "Security": {"AuthPrivateKey": KEY},
    }
    hosts = await bench.device.run("cat /etc/hosts")
    assert hosts == "127.0.0.1\tmy-server.com # mtls-ambassador\n127.0.0.1\tlocalhost\n192.0.2.9 mine\n"
    assert await bench.device.run(f"cat {KEY}") == (bench.files / "device.key").read_text()
    again = await bench.push("--json")
    assert again.status == 0
    assert json.loads(again.out)["server_url"] == "https://my-server.com:8080"
    assert await bench.state() == first


async def test_the_dry_run_is_a_script_that_does_the_same(bench: Bench, tmp_path: Path) -> None:
    dry = await bench.push("--dry-run")
    assert (dry.status, dry.err) == (0, "")
    assert bench.device.systemctl_calls() == []  # nothing has happened
    script = tmp_path / "push.sh"
    script.write_text(f'mtls-ambassador() {{ {" ".join(PROGRAM)} "$@"; }}\n{dry.out}')
    done = await bench.run("bash", str(script))
    assert done.status == 0, done.err
    scripted = await bench.state()
    assert (await bench.push()).status == 0
    assert await bench.state() == scripted


async def test_an_unknown_host_key_is_refused_and_said_so(bench: Bench) -> None:
    bench.device.known_hosts.write_text("")
    refused = await bench.push()
    assert refused.status == 1
    assert "Host key verification failed" in refused.err
    assert "--host-key accept-new" in refused.err
    assert (await bench.push("--host-key", "accept-new", "--no-restart")).status == 0
    assert bench.device.known_hosts.read_text() != ""
    assert bench.device.systemctl_calls() == []


async def test_a_wrong_login_key_asks_for_no_password(bench: Bench) -> None:
    (bench.device._ours / "authorized_keys").write_text("")
    refused = await bench.push()
    assert refused.status == 1
    assert "Permission denied" in refused.err
    assert "--identity" in refused.err


async def test_a_configuration_that_is_no_json_stays_and_nothing_is_put(bench: Bench) -> None:
    await bench.device.run(f"echo '{{\"a\": 1, }} // mine' > {CONFIGURATION}")
    refused = await bench.push()
    assert refused.status == 2
    assert "/etc/mender/mender.conf on root@127.0.0.1 is not valid JSON: line 1, column " in refused.err
    assert "a trailing comma at line 1, column 8, a comment at line 1, column 12" in refused.err
    assert await bench.device.run(f"cat {CONFIGURATION}; ls /data") == '{"a": 1, } // mine\n'


async def test_a_failing_step_is_named(bench: Bench) -> None:
    await bench.device.run("touch /data/mender")  # where a directory has to be
    failed = await bench.push()
    assert failed.status == 1
    assert "could not put the private key to /data/mender/mender-cert-private.pem, mode 0600" in failed.err


@pytest.fixture(autouse=True)
def _needs_no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

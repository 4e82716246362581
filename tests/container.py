"""A container without its engine: the image's own instructions, in namespaces, as `docker run` would start them.

`python -m tests.container DIRECTORY` is run by a test inside a network namespace of its own, where ports 8080 and 8081
are free and the image's addresses can be as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import SeedPki, seed_pki
from tests.edge_process import EdgeProcess
from tests.sandbox import Bind, Sandbox

DOCKERFILE = Path(__file__).parents[1] / "deploy" / "Dockerfile"
NOBODY = 65534
USER, PASSWORD = "mtls@mender.io", "correct-horse-battery-staple"
IDENTITY = {"mac": "52:54:00:12:34:56"}

# From Mender's page on mutual TLS, as it stands there.
DOCKER_RUN = r"""
docker run \
  -p 443:8080 \
  -e MTLS_MENDER_USER="$MTLS_MENDER_USER" \
  -e MTLS_MENDER_PASS="$MTLS_MENDER_PASS" \
  -e MTLS_MENDER_BACKEND=$MTLS_MENDER_BACKEND \
  -e MTLS_DEBUG_LOG=true \
  -v $(pwd)/server-cert.pem:/etc/mtls/certs/server/server.crt \
  -v $(pwd)/server-private.key:/etc/mtls/certs/server/server.key \
  -v $(pwd)/ca-cert.pem:/etc/mtls/certs/tenant-ca/tenant.ca.pem \
  registry.mender.io/mendersoftware/mtls-ambassador:latest
"""


@dataclass(frozen=True)
class Image:
    """What the last stage of a Dockerfile says."""

    environment: Mapping[str, str]
    user: str
    ports: frozenset[str]
    entrypoint: Sequence[str]
    health: Sequence[str]
    directory: str

    @classmethod
    def read(cls, dockerfile: Path = DOCKERFILE) -> Image:
        """Read it; shell forms are errors, since the image promises to need no shell."""
        lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
        last = text[text.rindex("\nFROM ") :]
        said: dict[str, str] = {}
        for instruction, rest in re.findall(r"^([A-Z]+) +(.*)$", last, re.MULTILINE):
            said[instruction] = rest.strip()
        return cls(
            environment=dict(pair.split("=", 1) for pair in shlex.split(said["ENV"])),
            user=said["USER"],
            ports=frozenset(said["EXPOSE"].split()),
            entrypoint=json.loads(said["ENTRYPOINT"]),
            health=json.loads(said["HEALTHCHECK"].partition("CMD ")[2]),
            directory=said["WORKDIR"],
        )

    def installed_here(self) -> Mapping[str, str]:
        """Its environment, with this Python's programs in place of those it carries."""
        here = str(Path(sys.executable).parent)
        return {**self.environment, "PATH": self.environment["PATH"].replace("/opt/mtls-ambassador/bin", here)}


@dataclass(frozen=True)
class Run:
    """What a container is started with."""

    environment: Mapping[str, str]
    binds: Sequence[Bind]
    ports: Sequence[str]
    arguments: Sequence[str] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    open_files: int | None = None

    @classmethod
    def read(cls, line: str, directory: Path, variables: Mapping[str, str]) -> Run:
        """Read a `docker run` line as a shell in `directory` would, that has these variables."""
        line = line.replace("$(pwd)", str(directory)).replace("\\\n", " ")
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line)[2:-1]
        pairs = list(zip(words[::2], words[1::2], strict=True))
        mounts = [value.split(":") for option, value in pairs if option == "-v"]
        return cls(
            environment=dict(value.split("=", 1) for option, value in pairs if option == "-e"),
            binds=[Bind(Path(source), target) for source, target in mounts],
            ports=[value for option, value in pairs if option == "-p"],
        )


def contained(image: Image, run: Run, directory: Path) -> EdgeProcess:
    """The image's entrypoint as a process; use `async with`.

    Args:
        image: What to run.
        run: And with what.
        directory: Where private keys are that must not be in its log.
    """
    environment = {**image.installed_here(), **run.environment}
    program = shutil.which(image.entrypoint[0], path=environment["PATH"])
    assert program is not None
    user, group = map(int, image.user.split(":"))
    assert user == group
    state, tmpfs = environment["MTLS_STATE_DIR"], dict(run.tmpfs)
    if not run.read_only and state not in {bind.target for bind in run.binds}:
        tmpfs[state] = f"mode=0700,uid={user},gid={user}"  # the image's own directory
    sandbox = Sandbox(user, run.binds, tmpfs, run.hosts, run.read_only, image.directory, open_files=run.open_files)
    command = sandbox.command(program, *image.entrypoint[1:], *run.arguments)
    return EdgeProcess(environment, directory=directory, command=command, wait=False)


async def _the_documents_line_works(directory: Path) -> None:
    loopback_up()
    pki = seed_pki(directory)
    given_to_the_user(pki)
    image = Image.read()
    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as lab:
        variables = {"MTLS_MENDER_USER": USER, "MTLS_MENDER_PASS": PASSWORD, "MTLS_MENDER_BACKEND": lab.url}
        run = Run.read(DOCKER_RUN, directory, variables)
        async with contained(image, run, directory) as edge:
            await serves_as_promised(edge)
            await probes(image, "127.0.0.1")
            async with as_device(pki, "127.0.0.1"):
                pass
            (known,) = lab.devices()
            assert (known.identity, known.status) == (IDENTITY, "accepted")
            assert "cannot be written" not in edge.log_text()
            assert await edge.stop() == 0


def given_to_the_user(pki: SeedPki) -> None:
    """The document's `sudo chown 65534`."""
    for file in (pki.server_certificate, pki.server_key, pki.ca_certificate):
        os.chown(file, NOBODY, -1)
    pki.server_key.chmod(0o600)


async def serves_as_promised(edge: EdgeProcess) -> None:
    """Wait for an edge that listens on the image's ports, as its user and with no capability."""
    line = await edge.line("the edge serves devices")
    assert re.search(r"listen=\S*:8080 ", f"{line} ")
    assert re.search(r"health=\S*:8081 ", f"{line} ")
    edge.assert_runs_as(NOBODY)


async def probes(image: Image, address: str) -> None:
    """Ask what is asked of a container from outside and inside."""
    async with aiohttp.ClientSession() as session:
        for path in ("/status", "/livez", "/readyz"):
            async with session.get(f"http://{address}:8081{path}") as answer:
                assert answer.status == 200, path
    # As a container behind a proxy has it; the probe must not go there.
    with_proxy = {**image.installed_here(), "http_proxy": "http://127.0.0.1:9"}
    program, *arguments = image.health
    found = shutil.which(program, path=with_proxy["PATH"])
    assert found is not None
    probe = await asyncio.create_subprocess_exec(found, *arguments, env=with_proxy)
    assert await probe.wait() == 0


@contextlib.asynccontextmanager
async def as_device(pki: SeedPki, address: str, port: int = 8080) -> AsyncIterator[SimulatedDevice]:
    """The document's device, which has asked for the edge's state, authenticated, and sent its inventory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the document's server certificate has no subject alternative name
    context.load_verify_locations(pki.ca_certificate)
    context.load_cert_chain(pki.device_certificate, pki.device_key)
    url = f"https://{address}:{port}/status"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        assert (answer.status, await answer.text()) == (200, '{"status":"ok"}')
    device = SimulatedDevice(
        f"https://my-server.com:{port}",
        pki.ca_certificate,
        pki.device_certificate,
        pki.device_key,
        IDENTITY,
        address=address,
    )
    async with device:
        await device.authenticate()
        await device.send_inventory()
        yield device


def loopback_up() -> None:
    """Bring up `lo` of a new network namespace (netdevice(7): SIOCSIFFLAGS, IFF_UP and IFF_RUNNING)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))


if __name__ == "__main__":
    asyncio.run(_the_documents_line_works(Path(sys.argv[1])))

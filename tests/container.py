"""A container without its engine: the image's own instructions, in namespaces, as `docker run` would start them.

`python -m tests.container DIRECTORY` is run by a test inside a network namespace of its own, where ports 8080 and 8081
are free and the image's addresses can be as they are.
"""

from __future__ import annotations

import asyncio
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.server import LabServer, LabSettings
from tests.certificates import SeedPki, seed_pki
from tests.edge_process import EdgeProcess

DOCKERFILE = Path(__file__).parents[1] / "deploy" / "Dockerfile"
NOBODY = 65534
USER, PASSWORD = "mtls@mender.io", "correct-horse-battery-staple"

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

# Files are mounted where the line says (from $4 on, source and target by turns, up to `--`), in a copy of /etc, so that
# nothing is left behind on this machine. `$1` is scratch, `$2` the image's state directory, `$3` where Python lives,
# which is shown again if others may not enter the home directory above it. Then the working directory and the command.
_CONTAIN = r"""
set -eu
scratch=$1 state=$2 python=$3; shift 3
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$scratch"
mkdir "$scratch/etc" "$scratch/files" "$scratch/python"
cp -a /etc/. "$scratch/etc"
while [ "$1" != -- ]; do
  mkdir -p "$scratch$(dirname "$2")"
  touch "$scratch$2"
  mount --bind "$1" "$scratch$2"
  shift 2
done
shift
mount --rbind "$scratch/etc" /etc
mount -t tmpfs -o mode=0755 tmpfs "$(dirname "$state")"
mkdir "$state"
mount -t tmpfs -o mode=0700,uid=65534,gid=65534 tmpfs "$state"
case $python in /root/*)
  mount --bind "$python" "$scratch/python"
  mount -t tmpfs -o mode=0755 tmpfs /root
  mkdir -p "$python"
  mount --bind "$scratch/python" "$python"
esac
cd "$1"; shift
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
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
    """What a `docker run` line says."""

    environment: Mapping[str, str]
    files: Sequence[tuple[str, str]]
    """Source and target."""
    ports: Sequence[str]

    @classmethod
    def read(cls, line: str, directory: Path, variables: Mapping[str, str]) -> Run:
        """Read it as a shell in `directory` would, that has these variables."""
        line = line.replace("$(pwd)", str(directory)).replace("\\\n", " ")
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line)[2:-1]
        pairs = list(zip(words[::2], words[1::2], strict=True))
        return cls(
            environment=dict(value.split("=", 1) for option, value in pairs if option == "-e"),
            files=[
                (source, target) for option, value in pairs if option == "-v" for source, target in [value.split(":")]
            ],
            ports=[value for option, value in pairs if option == "-p"],
        )


def contained(image: Image, run: Run, scratch: Path) -> list[str]:
    """The command that runs the image's entrypoint in a mount namespace."""
    environment = image.installed_here()
    program = shutil.which(image.entrypoint[0], path=environment["PATH"])
    assert program is not None
    files = [word for pair in run.files for word in pair]
    return [
        "unshare", "--mount", "/bin/sh", "-c", _CONTAIN, "contain", str(scratch), environment["MTLS_STATE_DIR"],
        sys.base_prefix, *files, "--", image.directory, program, *image.entrypoint[1:],
    ]  # fmt: skip


async def _the_documents_line_works(directory: Path) -> None:
    loopback_up()
    pki = seed_pki(directory)
    for file in (pki.server_certificate, pki.server_key, pki.ca_certificate):  # the document's `sudo chown 65534`
        os.chown(file, NOBODY, -1)
    pki.server_key.chmod(0o600)
    scratch = directory / "scratch"
    scratch.mkdir()
    image = Image.read()
    async with LabServer(LabSettings(user=USER, password=PASSWORD)) as lab:
        variables = {"MTLS_MENDER_USER": USER, "MTLS_MENDER_PASS": PASSWORD, "MTLS_MENDER_BACKEND": lab.url}
        run = Run.read(DOCKER_RUN, directory, variables)
        environment = {**image.installed_here(), **run.environment}
        async with EdgeProcess(environment, directory=directory, command=contained(image, run, scratch)) as edge:
            status = Path(f"/proc/{edge.process.pid}/status").read_text(encoding="utf-8")
            assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
            assert "CapEff:\t0000000000000000" in status
            assert (edge.port, edge.health_port) == (8080, 8081)
            await _probes(image, environment)
            await _device(directory, pki, lab)
            assert "cannot be written" not in edge.log_text()
            assert await edge.stop() == 0


async def _probes(image: Image, environment: Mapping[str, str]) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/status", "/livez", "/readyz"):
            async with session.get(f"http://127.0.0.1:8081{path}") as answer:
                assert answer.status == 200, path
    # As a container behind a proxy has it; the probe must not go there.
    with_proxy = {**environment, "http_proxy": "http://127.0.0.1:9"}
    program, *arguments = image.health
    found = shutil.which(program, path=environment["PATH"])
    assert found is not None
    probe = await asyncio.create_subprocess_exec(found, *arguments, env=with_proxy)
    assert await probe.wait() == 0


async def _device(directory: Path, pki: SeedPki, lab: LabServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the document's server certificate has no subject alternative name
    context.load_verify_locations(pki.ca_certificate)
    context.load_cert_chain(pki.device_certificate, pki.device_key)
    async with aiohttp.ClientSession() as session, session.get("https://127.0.0.1:8080/status", ssl=context) as answer:
        assert (answer.status, await answer.text()) == (200, '{"status":"ok"}')
    url, identity = "https://my-server.com:8080", {"mac": "52:54:00:12:34:56"}
    device = SimulatedDevice(
        url, pki.ca_certificate, pki.device_certificate, pki.device_key, identity, address="127.0.0.1"
    )
    async with device:
        await device.authenticate()
        await device.send_inventory()
    (known,) = lab.devices()
    assert (known.identity, known.status) == (identity, "accepted")


def loopback_up() -> None:
    """Bring up `lo` of a new network namespace (netdevice(7): SIOCSIFFLAGS, IFF_UP and IFF_RUNNING)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))


if __name__ == "__main__":
    asyncio.run(_the_documents_line_works(Path(sys.argv[1])))

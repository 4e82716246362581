"""`python -m bench.batch`: `pki batch` beside the plain cost of its keys and certificates in `cryptography`.

Plain is one process that makes as many P-256 keys, builds and signs as many certificates with the same extensions, and
makes PEM of both, in memory. `pki batch` does that too, and keeps the index, writes and syncs the files and manifest.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.measure import Processes
from bench.rounds import machine

_EVERY = 0.05  # seconds between two looks at the memory


@dataclass(frozen=True)
class Figures:
    """What one run took.

    Attributes:
        wall: Seconds.
        cpu: Seconds of processor time, all processes, user + system, start and end included.
        memory: Bytes of resident memory at the highest, of all processes together (RSS; what they share counts often).
    """

    wall: float
    cpu: float
    memory: int


def plain(count: int) -> None:
    """Keys, certificates and PEM, with nothing around."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "My CA")])
    begin = datetime.datetime.now(datetime.UTC)
    end = begin + datetime.timedelta(days=3650)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    for number in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        name = f"device-{number:06}"
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(1 << 127 | secrets.randbits(127))
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(True, False, False, False, False, False, False, False, False),  # noqa: FBT003
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate.public_bytes(Encoding.PEM)


def measured(command: Sequence[str]) -> Figures:
    """Run a program to its end, with an eye on its memory."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    highest = 0
    while True:
        # Waited for here, since the time of its ended children is known with it only.
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one of them ended just now
            highest = max(highest, Processes(process.pid).memory().rss)
        time.sleep(_EVERY)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise click.ClickException(f"{' '.join(command)} ended with status {process.returncode}")
    return Figures(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, highest)


@click.command
@click.option("--count", default=10000, show_default=True, help="Devices.")
@click.option("--rounds", default=3, show_default=True, help="How often each is measured, by turns.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures to this FILE.")
@click.option("--plain", "only_plain", is_flag=True, hidden=True)
def main(*, count: int, rounds: int, json_file: Path | None, only_plain: bool) -> None:
    """Measure `pki batch` beside the plain cost of its keys and certificates."""
    if only_plain:
        plain(count)
        return
    ours: list[Figures] = []
    beside: list[Figures] = []
    loads: list[float] = []
    program = [sys.executable, "-m", "mtls_ambassador", "pki"]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        subprocess.run([*program, "init", "--dir", name, "--cn", "My CA"], check=True, stdout=subprocess.DEVNULL)
        for number in range(rounds):
            loads.append(os.getloadavg()[0])
            beside.append(measured([sys.executable, "-m", "bench.batch", "--plain", "--count", str(count)]))
            devices = ["--count", str(count), "--cn", f"r{number}-{{n:06}}", "--out", f"{name}/{number}"]
            ours.append(measured([*program, "batch", "--dir", name, *devices]))
    for what, figures in (("plain", beside), ("pki batch", ours)):
        wall, cpu, memory = (statistics.median(getattr(each, field) for each in figures) for field in _FIELDS)
        click.echo(
            f"{what}: {cpu / count * 1e6:,.0f} µs of processor time a device, {count / wall:,.0f} a second, "
            f"{memory / 2**20:,.0f} MiB"
        )
    ratios = {
        field: statistics.median(getattr(a, field) / getattr(b, field) for a, b in zip(ours, beside, strict=True))
        for field in _FIELDS[:2]
    }
    click.echo(f"pki batch ÷ plain: processor time {ratios['cpu']:.2f}, time {ratios['wall']:.2f}; load {loads}")
    if json_file is not None:
        each_run = {"plain": [asdict(each) for each in beside], "batch": [asdict(each) for each in ours]}
        facts = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "count": count, "load": loads}
        json_file.write_text(json.dumps({**facts, **each_run, "ratios": ratios}, indent=1) + "\n", encoding="utf-8")


_FIELDS = ("wall", "cpu", "memory")


if __name__ == "__main__":
    main()

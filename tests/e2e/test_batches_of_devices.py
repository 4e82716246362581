"""`pki batch` as a factory runs it: killed, resumed, with lists that have faults, and read by the real openssl."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mtls_ambassador.pki.entries import Entry, Kind, Status
from mtls_ambassador.pki.index import Index
from tests.edge_process import PROGRAM
from tests.world import eventually

pytestmark = pytest.mark.needs("openssl")

FILES = {"device-private.key", "device-cert.pem", "ca-chain.pem", "mender.conf"}
UPSTREAM = "https://mender.example.com"
SERVER = ("--server-url", "https://my-server.com:8080")


def run(directory: Path, *command: object, status: int = 0) -> str:
    """Its standard output."""
    done = subprocess.run(
        [str(part) for part in command], cwd=directory, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout


def batch(directory: Path, *arguments: object, status: int = 0) -> dict[str, Any]:
    """The summary of a run."""
    return dict(json.loads(run(directory, *PROGRAM, "pki", "batch", "--json", *arguments, status=status)))


def begun(directory: Path, *arguments: object) -> subprocess.Popen[str]:
    """A run, in a process group of its own."""
    command = [*PROGRAM, "pki", "batch", "--json", *map(str, arguments)]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True, start_new_session=True)


def openssl(directory: Path, *arguments: object) -> str:
    return run(directory, "openssl", *arguments)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    run(tmp_path, *PROGRAM, "pki", "init", "--cn", "My CA", "--intermediate")
    return tmp_path


def issued(directory: Path) -> list[Entry]:
    with Index.open(directory, writable=False) as index:
        return list(index.entries(kind=Kind.DEVICE))


def manifest(out: Path) -> list[dict[str, str]]:
    rows = json.loads((out / "manifest.json").read_bytes())
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows
    return list(rows)


def places(out: Path) -> set[str]:
    return {each.name for each in out.iterdir()} - {"manifest.csv", "manifest.json", "batch.json"}


@pytest.mark.parametrize(
    ("number", "checkpoint", "archives"),
    [
        (600, 40, False),
        (600, 40, True),
        pytest.param(10_000, 1000, False, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_killed_five_times_and_resumed_it_is_whole(
    ca: Path, number: int, checkpoint: int, archives: bool
) -> None:
    """Each time somebody takes a device away that is in its place already."""
    seed = random.randrange(1 << 32)
    sys.stderr.write(f"seed {seed}\n")  # shown where it fails
    moments = random.Random(seed)
    form = ("--tar",) if archives else ()
    arguments = ("--count", number, "--cn", "device-{n:06}", "--out", "out", "--checkpoint", checkpoint, *SERVER, *form)
    out, shipped = ca / "out", ca / "shipped"
    shipped.mkdir()
    for kill in range(5):
        process = begun(ca, *arguments)
        # A moment in the work rather than on the clock: after so many more devices than before, or staged files.
        reached = kill * number // 6 + moments.randrange(number // 6)

        def far_enough(running: subprocess.Popen[str] = process, goal: int = reached) -> bool:
            seen = sum(len(list(folder.iterdir())) for folder in (out, out / ".staging") if folder.exists())
            return running.poll() is not None or seen > goal

        await eventually(far_enough, 100)
        process.kill()
        with process:  # its workers may still be at it when the next run begins
            pass
        for name in sorted(places(out) - {".staging"})[-1:]:
            (out / name).rename(shipped / name)
    summary = batch(ca, *arguments)
    assert summary["complete"]
    assert summary["total"] == number

    entries, rows = issued(ca), manifest(out)
    assert len(entries) == len(rows) == number
    assert {entry.status for entry in entries} == {Status.VALID}
    assert {entry.subject for entry in entries} == {f"CN=device-{n:06}" for n in range(1, number + 1)}
    assert [row["cn"] for row in rows] == [f"device-{n:06}" for n in range(1, number + 1)]
    by_serial = {entry.serial: entry for entry in entries}
    assert {row["serial"]: row["fingerprint"] for row in rows} == {entry.serial: entry.fingerprint for entry in entries}
    ending = ".tar.gz" if archives else ""
    assert list(shipped.iterdir())
    for place in shipped.iterdir():
        place.rename(out / place.name)  # and fails if the device was made once more
    assert places(out) == {f"device-{n:06}{ending}" for n in range(1, number + 1)}
    for row in rows:
        certificate, key = contents(out, row)
        entry = by_serial[row["serial"]]
        assert certificate == x509.load_der_x509_certificate(entry.der)
        assert certificate.public_key() == load_pem_private_key(key, None).public_key()
        assert (ca / entry.path).exists()
    again = batch(ca, *arguments)
    assert (again["made"], again["before"], again["total"]) == (0, number, number)


def contents(out: Path, row: dict[str, str]) -> tuple[x509.Certificate, bytes]:
    """Of a device whose files must all be there."""
    name = row["cn"]
    if "archive" in row:
        with tarfile.open(out / row["archive"]) as tar:
            files = {Path(each.name).name: tar.extractfile(each) for each in tar}
            data = {key: file.read() for key, file in files.items() if file is not None}
    else:
        assert (out / row["key"]).stat().st_mode & 0o777 == 0o600
        data = {each.name: each.read_bytes() for each in (out / name).iterdir()}
    assert set(data) == FILES
    assert json.loads(data["mender.conf"])["ServerURL"] == SERVER[1]
    return x509.load_pem_x509_certificate(data["device-cert.pem"]), data["device-private.key"]


async def test_stopped_by_ctrl_c_it_ends_well_and_goes_on(ca: Path) -> None:
    arguments = ("--count", 2000, "--cn", "{n}", "--out", "out", "--checkpoint", 20)
    process = begun(ca, *arguments)
    await eventually((ca / "out" / "1").exists, 100)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    summary = json.loads(process.communicate(timeout=100)[0])
    assert process.returncode == 130
    assert not summary["complete"]
    assert summary["made"] == summary["total"] == len(issued(ca)) == len(places(ca / "out")) < 2000
    assert {entry.status for entry in issued(ca)} == {Status.VALID}
    rest = batch(ca, *arguments)
    assert (rest["before"], rest["total"]) == (summary["made"], 2000)


def test_openssl_verifies_what_a_list_became(ca: Path) -> None:
    (ca / "devices.csv").write_text("serial,mac\nA1,00:01\nA2,00:02\n", encoding="utf-8")
    batch(
        ca, "devices.csv", "--cn", "{serial}.devices.example.com", "--name", "{serial}", "--identity", "mac={mac}",
        "--san", "URI:urn:device:{serial}", "--key-type", "p384", "--organization", "Plant", "--image", ".sdimg",
        "--out", "out", *SERVER,
    )  # fmt: skip
    for name in ("A1", "A2"):
        openssl(ca, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", f"out/{name}/ca-chain.pem",
                "-untrusted", f"out/{name}/device-cert.pem", f"out/{name}/device-cert.pem")  # fmt: skip
    text = openssl(ca, "x509", "-in", "out/A1/device-cert.pem", "-noout", "-text")
    assert "DNS:A1.devices.example.com, URI:urn:device:A1" in text
    assert "O = Plant" in text or "O=Plant" in text
    first, _second = manifest(ca / "out")
    assert first["identity"] == '{"mac":"00:01"}'
    assert (first["image"], first["key"]) == ("A1.sdimg", "A1/device-private.key")
    serial = openssl(ca, "x509", "-in", "out/A1/device-cert.pem", "-noout", "-serial")
    assert serial.strip().lower() == f"serial={first['serial']}"


def test_bad_rows_are_told_and_the_rest_goes_on(ca: Path) -> None:
    rows = ["serial,mac", "A1,1", "", "A3", ",4", "A1,5", "../up,6", f"{'x' * 70},7", '"Q9,9', "A8,8"]
    (ca / "devices.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    arguments = ("devices.csv", "--cn", "{serial}", "--out", "out")
    summary = batch(ca, *arguments, status=1)
    assert (summary["made"], summary["problems"], summary["complete"]) == (2, 6, True)
    told = {each["where"]: each["what"] for each in summary["first_problems"]}
    assert told.keys() == {f"devices.csv, line {line}" for line in (4, 5, 6, 7, 8, 9)}
    assert "A1 is the name at devices.csv, line 2 already" in told["devices.csv, line 6"]
    assert "too long" in told["devices.csv, line 8"]

    rows[3], rows[4:9] = "A3,3", []
    (ca / "devices.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    mended = batch(ca, *arguments)
    assert (mended["made"], mended["before"], mended["total"]) == (1, 2, 3)
    assert {row["cn"] for row in manifest(ca / "out")} == {"A1", "A3", "A8"}


def test_a_device_gets_one_certificate_whatever_the_folder(ca: Path) -> None:
    arguments: Sequence[object] = ("--count", 3, "--cn", "device-{n}")
    batch(ca, *arguments, "--out", "one")
    summary = batch(ca, *arguments, "--out", "two", status=1)
    assert (summary["made"], summary["problems"]) == (0, 3)
    assert "has a certificate already" in summary["first_problems"][0]["what"]
    assert places(ca / "two") == set()
    assert batch(ca, *arguments, "--out", "two", "--again")["made"] == 3
    run(ca, *PROGRAM, "pki", "batch", *arguments, "--out", "one", "--days", 9, status=1)


def test_a_folder_of_requests_is_signed(ca: Path) -> None:
    requests = ca / "requests"
    requests.mkdir()
    for name in ("one", "two"):
        openssl(requests, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key")
        openssl(requests, "req", "-new", "-key", f"{name}.key", "-subj", f"/CN=my-{name}", "-out", f"{name}.csr")
    openssl(requests, "req", "-new", "-key", "one.key", "-subj", "/CN=thief", "-out", "three.csr")
    (requests / "four.csr").write_text("nothing", encoding="utf-8")
    for name in ("one", "two"):
        (requests / f"{name}.key").rename(ca / f"{name}.key")
    summary = batch(ca, "--csr-dir", "requests", "--out", "out", status=1)
    assert (summary["made"], summary["problems"]) == (2, 2)
    rows = manifest(ca / "out")
    assert len({row["public_key"] for row in rows}) == 2
    assert all("key" not in row for row in rows)
    for row in rows:
        assert {each.name for each in (ca / "out" / row["certificate"]).parent.iterdir()} == {
            "device-cert.pem",
            "ca-chain.pem",
        }
    own = openssl(ca, "pkey", "-in", "two.key", "-pubout")
    assert openssl(ca, "x509", "-in", "out/two/device-cert.pem", "-noout", "-pubkey") == own

    openssl(ca, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "new.key", "-subj", "/CN=my-two",
            "-out", "requests/two.csr")  # fmt: skip
    changed = batch(ca, "--csr-dir", "requests", "--out", "out", status=1)
    assert (changed["made"], changed["before"], changed["problems"]) == (0, 1, 3)
    told = {each["where"]: each["what"] for each in changed["first_problems"]}
    assert "two was issued with another key than its request has now" in told["requests/two.csr"]


def test_a_revoked_device_leaves_the_manifest_and_gets_another_when_it_shall(ca: Path) -> None:
    def host(name: str) -> None:
        (ca / "devices.csv").write_text(f"serial,host\nm1,h1\nm2,{name}\n", encoding="utf-8")

    arguments = ("devices.csv", "--cn", "{serial}", "--san", "DNS:{host}", "--out", "out")
    host("h2")
    batch(ca, *arguments)
    host("new-h2")
    told = batch(ca, *arguments, status=1)["first_problems"][0]["what"]
    assert "m2 was issued with the names m2, h2, not new-h2" in told
    _, row = manifest(ca / "out")
    assert f"revoke serial {row['serial']}, move its files away, and run this with --again" in told

    run(ca, *PROGRAM, "pki", "revoke", row["serial"])
    summary = batch(ca, *arguments)
    assert (summary["made"], summary["before"], summary["revoked"], summary["total"]) == (0, 1, 1, 1)
    assert [each["cn"] for each in manifest(ca / "out")] == ["m1"]
    problem = batch(ca, *arguments, "--again", status=1)["first_problems"][0]["what"]
    assert problem == f"out/m2 has the revoked certificate, serial {row['serial']}: move it away"
    (ca / "out" / "m2").rename(ca / "old-m2")
    summary = batch(ca, *arguments, "--again")
    assert (summary["made"], summary["before"], summary["revoked"], summary["total"]) == (1, 1, 0, 2)
    _, new = manifest(ca / "out")
    assert new["serial"] != row["serial"]
    assert "DNS:new-h2" in openssl(ca, "x509", "-in", "out/m2/device-cert.pem", "-noout", "-text")
    assert {entry.serial: entry.status for entry in issued(ca)}[row["serial"]] is Status.REVOKED
    assert batch(ca, *arguments)["before"] == 2


def test_private_keys_leave_only_encrypted(ca: Path) -> None:
    openssl(ca, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Provisioning", "-keyout", "r.key",
            "-out", "r.pem")  # fmt: skip
    batch(ca, "--count", 2, "--cn", "d{n}", "--encrypt-to", "r.pem", "--out", "out")
    for file in (ca / "out").rglob("*"):
        assert not file.is_file() or b"BEGIN PRIVATE KEY" not in file.read_bytes()
    opened = openssl(ca, "cms", "-decrypt", "-inform", "PEM", "-in", "out/d1/device-private.key.cms", "-recip", "r.pem",
                     "-inkey", "r.key")  # fmt: skip
    (ca / "d1.key").write_text(opened, encoding="utf-8")
    own = openssl(ca, "pkey", "-in", "d1.key", "-pubout")
    assert openssl(ca, "x509", "-in", "out/d1/device-cert.pem", "-noout", "-pubkey") == own


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "one of LIST, --count and --csr-dir"),
        (("--count", "2", "--csr-dir", "."), "one of LIST, --count and --csr-dir"),
        (("--count", "2"), "give --cn"),
        (("--count", "2", "--cn", "{n"), "template"),
        (("--count", "2", "--cn", "{n}", "--identity", "mac"), "ATTRIBUTE=TEMPLATE"),
        (("missing.csv", "--cn", "{n}"), "cannot read missing.csv"),
        (("--csr-dir", "missing"), "cannot read missing"),
        (("--count", "2", "--cn", "{n}", "--encrypt-to", "ca-cert.pem"), "no RSA key"),
        (("--csr-dir", ".", "--encrypt-to", "ca-cert.pem"), "no private key"),
        (("--csr-dir", ".", "--country", "NO"), "need --cn"),
        (("--count", "2", "--cn", "{n}", "--server-url", "https://hosted.mender.io"), "is the Mender Server"),
        (("--count", "2", "--cn", "{n}", "--server-url", UPSTREAM), "is the Mender Server"),
        (("--count", "2", "--cn", "{n}", "--conf", "past.conf"), "past.conf: the server URL"),
        (("--count", "2", "--cn", "{n}", *SERVER, "--upstream", SERVER[1]), "is the Mender Server"),
        (("--count", "2", "--cn", "{n}", "--tenant-token-file", "t"), "goes into mender.conf"),
        (("--count", "2", "--cn", "{n}", *SERVER, "--tenant-token-file", "bad.token"), "tenant token bad.token"),
        (("--count", "2", "--cn", "{n}", "--image", ".sdimg", "--tar"), "--image needs each device's key"),
        (
            ("--count", "2", "--cn", "{n}", "--image", ".sdimg", "--encrypt-to", "r.pem"),
            "--image needs each device's key",
        ),
        (("--csr-dir", ".", "--image", ".sdimg"), "--image needs each device's key"),
        (("--count", "2", "--cn", "{n}", "--image", ".mender"), "Invalid value for '--image'"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_made(ca: Path, arguments: Sequence[str], told: str) -> None:
    (ca / "past.conf").write_text(json.dumps({"ServerURL": UPSTREAM}), encoding="utf-8")
    (ca / "bad.token").write_bytes(b"tok en\nsecond\xff")
    done = subprocess.run(
        [*PROGRAM, "pki", "batch", "--out", "out", *arguments],
        cwd=ca,
        env={**os.environ, "MTLS_MENDER_BACKEND": UPSTREAM},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (ca / "out").exists()

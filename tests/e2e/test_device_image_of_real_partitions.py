"""`device image` on images with real file systems: debugfs and mender-artifact find what was put in, as it should."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from mtls_ambassador.device.conf import CA, CERTIFICATE, CONFIGURATION, KEY
from tests.certificates import CertificateAuthority, new_key
from tests.disk_image import PROGRAMS, content, listing, partition, root_file_system, write_sdimg
from tests.edge_process import PROGRAM
from tests.world import eventually

pytestmark = [pytest.mark.needs(*PROGRAMS, "openssl"), pytest.mark.timeout(300)]

URL = "https://my-server.com:8080"
REGULAR = 0o100000


class Factory:
    """A CA, two devices' files, and the command."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ca = CertificateAuthority()
        (directory / "ca.pem").write_bytes(ca.pem)
        for name in ("one", "two"):
            certificate, key = ca.device(name, key=new_key()).write(directory, name)
            certificate.rename(directory / f"{name}.pem")
            key.rename(directory / f"{name}.key")

    async def image(self, *arguments: str, url: str = URL) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "device", "image", *arguments, "--server-url", url),
            cwd=self.directory,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.directory)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert b"Traceback" not in err
        return process.returncode, out.decode(), err.decode()

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def taken(self, image: str, path: str) -> bytes:
        """The same file, by mender-artifact."""
        target = self.directory / "taken"
        target.unlink(missing_ok=True)
        self.tool("mender-artifact", "cp", f"{image}:{path}", "taken")
        return target.read_bytes()

    def tool(self, *command: str, check: bool = True) -> None:
        """Run a program in the folder."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr

    def all_files(self) -> dict[str, str]:
        files = (path for path in self.directory.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    place = tmp_path / "a factory: b"  # neither mender-artifact nor debugfs takes a blank or a colon in a name
    place.mkdir()
    return Factory(place)


ONE = ("--cert", "one.pem", "--key", "one.key", "--ca", "ca.pem")


async def test_a_disk_image(factory: Factory) -> None:
    image = factory.directory / "disk.sdimg"
    write_sdimg(image)
    status, out, err = await factory.image("disk.sdimg", *ONE)
    assert (status, out, err) == (0, f"disk.sdimg  its device connects to {URL}\n", "")
    data = partition(image, 3, factory.directory / "data")
    found = listing(data, "/mender")
    assert found[Path(KEY).name] == (REGULAR | 0o600, 0, 0)
    assert found[Path(CERTIFICATE).name] == (REGULAR | 0o644, 0, 0)
    assert content(data, "/mender/mender-cert-private.pem") == factory.read("one.key")
    assert content(data, "/mender/mender-cert.pem") == factory.read("one.pem")
    for number in (1, 2):  # both root file systems, whichever the device boots
        root = partition(image, number, factory.directory / "root")
        assert listing(root, str(Path(CA).parent))["ca-cert.crt"] == (REGULAR | 0o644, 0, 0)
        assert listing(root, "/etc/mender")["mender.conf"] == (REGULAR | 0o644, 0, 0)
        assert content(root, CA) == factory.read("ca.pem")
        assert json.loads(content(root, CONFIGURATION)) == {
            "InventoryPollIntervalSeconds": 5,
            "ServerURL": URL,
            "ServerCertificate": CA,
            "HttpsClient": {"Certificate": CERTIFICATE, "Key": KEY},
            "Security": {"AuthPrivateKey": KEY},
        }
    for path, name in ((KEY, "one.key"), (CERTIFICATE, "one.pem"), (CA, "ca.pem")):
        assert factory.taken("disk.sdimg", path) == factory.read(name)
    assert not image.stat().st_mode & 0o007


async def test_a_manifest(factory: Factory) -> None:
    template = factory.directory / "template.sdimg"
    write_sdimg(template)
    before = template.read_bytes()
    (factory.directory / "devices.csv").write_text(
        "cn,image,certificate,key\none,one.sdimg,one.pem,one.key\nbad,bad.sdimg,one.pem,two.key\n"
        "again,again.sdimg,one.pem,one.key\ntwo,two.sdimg,two.pem,two.key\n"
    )
    arguments = ("template.sdimg", "--manifest", "devices.csv", "--out", "images", "--ca", "ca.pem")
    status, out, err = await factory.image(*arguments, "--json")
    assert status == 1
    assert "devices.csv, line 3: the key two.key is not the key of the certificate one.pem" in err
    assert "devices.csv, line 4: has the same key as line 2" in err
    assert "2 of 4 images could not be made" in err
    told = [json.loads(line) for line in out.splitlines()]
    assert [(line["image"], line["status"]) for line in told] == [
        ("images/one.sdimg", "made"),
        ("images/two.sdimg", "made"),
    ]
    assert sorted(path.name for path in (factory.directory / "images").iterdir()) == ["one.sdimg", "two.sdimg"]
    for name in ("one", "two"):
        image = f"images/{name}.sdimg"
        data = partition(factory.directory / image, 3, factory.directory / "data")
        assert content(data, "/mender/mender-cert-private.pem") == factory.read(f"{name}.key")
        assert content(data, "/mender/mender-cert.pem") == factory.read(f"{name}.pem")
        assert json.loads(factory.taken(image, CONFIGURATION))["ServerURL"] == URL
    assert template.read_bytes() == before
    made = factory.all_files()
    status, out, err = await factory.image(*arguments)
    assert "images/one.sdimg  is there: kept" in out
    assert factory.all_files() == made


async def test_a_root_file_system_and_an_artifact(factory: Factory) -> None:
    root = root_file_system(factory.directory, None)  # without a mender.conf
    factory.tool(
        "mender-artifact", "write", "rootfs-image", "-t", "lab", "-n", "r1", "-f", root.name, "-o", "r1.mender"
    )
    status, _, err = await factory.image("root.ext4", "r1.mender", "--ca", "ca.pem")
    assert (status, err) == (0, "")
    assert content(root, CA) == factory.read("ca.pem")
    assert listing(root, "/etc/mender")["mender.conf"] == (REGULAR | 0o600, 0, 0)
    assert json.loads(factory.taken("r1.mender", CONFIGURATION))["ServerURL"] == URL
    assert factory.taken("r1.mender", CA) == factory.read("ca.pem")
    factory.tool("mender-artifact", "validate", "r1.mender")

    before = factory.all_files()
    status, _, err = await factory.image("r1.mender", *ONE)
    assert status == 1
    assert "r1.mender is an Artifact" in err
    assert factory.all_files() == before


async def test_a_signature_that_is_lost_is_told(factory: Factory) -> None:
    root_file_system(factory.directory, None)
    write = ("mender-artifact", "write", "rootfs-image", "-t", "lab", "-n", "r1", "-f", "root.ext4", "-o")
    factory.tool("openssl", "ec", "-in", "one.key", "-out", "sec1.key")  # the form that mender-artifact 3.9 signs with
    factory.tool(*write, "signed.mender", "-k", "sec1.key")
    factory.tool(*write, "plain.mender")
    assert "sign it again" in (await factory.image("signed.mender"))[2]
    assert (await factory.image("plain.mender"))[2] == ""


@pytest.mark.parametrize(
    ("conf", "rubbish", "says"),
    [
        ('{"a": 1, }', None, "/etc/mender/mender.conf in the image is not valid JSON: line 1, column "),
        (None, b"no file system", "invalid partition table"),
    ],
    ids=["configuration", "image"],
)
async def test_a_failure_leaves_everything_as_it_was(
    factory: Factory, conf: str | None, rubbish: bytes | None, says: str
) -> None:
    image = factory.directory / "root.img"
    if rubbish is None:
        root_file_system(factory.directory, conf).rename(image)
    else:
        image.write_bytes(rubbish * 100_000)
    before = factory.all_files()
    status, out, err = await factory.image("root.img", "--ca", "ca.pem")
    assert status in {1, 2}
    assert out == ""
    assert says in err
    assert factory.all_files() == before


async def test_a_full_file_system_is_told(factory: Factory) -> None:
    root_file_system(factory.directory, None)
    (factory.directory / "fill").write_bytes(os.urandom(20_000_000))  # more than goes in
    factory.tool("debugfs", "-w", "-R", "write fill fill", "root.ext4", check=False)
    before = factory.all_files()
    status, _, err = await factory.image("root.ext4", "--ca", "ca.pem")
    assert status == 1
    assert "cannot put /etc/mender/mender.conf in: " in err
    assert "Could not allocate" in err
    assert factory.all_files() == before


async def test_a_kill_leaves_nothing_that_the_next_run_does_not_remove(factory: Factory) -> None:
    write_sdimg(factory.directory / "template.sdimg")
    (factory.directory / "devices.csv").write_text("image,certificate,key\none.sdimg,one.pem,one.key\n")
    arguments = ("template.sdimg", "--manifest", "devices.csv", "--out", "images", "--ca", "ca.pem")
    images = factory.directory / "images"
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "device", "image", *arguments, "--server-url", URL),
        cwd=factory.directory,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    await eventually(lambda: process.returncode is not None or len(list(images.glob(".*"))) == 2, 100)
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    assert [path for path in images.rglob("*") if path.is_file()]
    assert (await factory.image(*arguments))[0] == 0
    assert [path.name for path in images.iterdir()] == ["one.sdimg"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a.img", "--cert", "one.pem"), "--cert without --key"),
        (("a.img", "--key", "one.key"), "--key without --cert"),
        (("a.img", "b.img", "--cert", "one.pem", "--key", "one.key"), "several images"),
        (("a.img", "--manifest", "m.csv"), "--manifest takes one IMAGE and --out"),
        (("a.img", "--manifest", "m.csv", "--out", "o"), "cannot read the manifest m.csv"),
        (("a.img", "--cert", "one.pem", "--key", "two.key"), "is not the key of the certificate"),
        (("none.img",), "No such file"),
        (("a.img", "--out", "one.pem"), "one.pem is there already"),
        (("one.pem",), "has none of the endings"),
    ],
)
async def test_wrong_input(factory: Factory, arguments: tuple[str, ...], says: str) -> None:
    before = factory.all_files()
    status, out, err = await factory.image(*arguments)
    assert status in {1, 2}
    assert out == ""
    assert says in err
    assert factory.all_files() == before


async def test_the_upstream_is_not_the_edge(factory: Factory) -> None:
    root_file_system(factory.directory, None)
    status, _, err = await factory.image("root.ext4", url="https://hosted.mender.io")
    assert status == 2
    assert "is the Mender Server, not the edge" in err

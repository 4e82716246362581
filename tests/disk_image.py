"""Disk images with real partitions and file systems, made without mounting anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("mender-artifact", "debugfs", "mkfs.ext4", "mkfs.vfat", "parted", "sfdisk")

_SECTOR = 512
_PARTITION = 16 * 2048  # sectors, so 16 MiB
_START = 2048
_SBIN = "/usr/sbin:/sbin"


def write_ext4(path: Path, content: Path) -> None:
    """An ext4 file system with the files of a directory, owned by root."""
    with path.open("wb") as file:
        file.truncate(_PARTITION * _SECTOR)
    _run("mkfs.ext4", "-q", "-E", "root_owner=0:0", "-d", str(content), str(path))


def root_file_system(directory: Path, conf: str | None) -> Path:
    """What an image's root file system has to do with Mender."""
    root = directory / "root"
    (root / "etc" / "mender").mkdir(parents=True)
    (root / "data").mkdir()
    if conf is not None:
        (root / "etc" / "mender" / "mender.conf").write_text(conf)
        (root / "etc" / "mender" / "mender.conf").chmod(0o644)
    write_ext4(directory / "root.ext4", root)
    shutil.rmtree(root)
    return directory / "root.ext4"


def write_sdimg(path: Path, *, conf: str | None = '{"InventoryPollIntervalSeconds": 5}') -> None:
    """A Mender disk image: FAT boot partition, root A, root B, data.

    Args:
        path: Where to write it.
        conf: `/etc/mender/mender.conf` of both root file systems.
    """
    scratch = path.parent / f"{path.name}.parts"
    scratch.mkdir()
    boot, data = scratch / "boot", scratch / "data.ext4"
    with boot.open("wb") as file:
        file.truncate(_PARTITION * _SECTOR)
    _run("mkfs.vfat", str(boot))
    root = root_file_system(scratch, conf)
    (scratch / "data" / "mender").mkdir(parents=True)
    write_ext4(data, scratch / "data")
    with path.open("wb") as image:
        image.truncate((_START + 4 * _PARTITION) * _SECTOR)
    kinds = ("c", "83", "83", "83")
    table = [f"start={_START + n * _PARTITION},size={_PARTITION},type={kind}" for n, kind in enumerate(kinds)]
    _run("sfdisk", "-q", str(path), given="\n".join(["label: dos", *table, ""]))
    with path.open("r+b") as image:
        for number, part in enumerate((boot, root, root, data)):
            image.seek((_START + number * _PARTITION) * _SECTOR)
            image.write(part.read_bytes())
    shutil.rmtree(scratch)


def partition(image: Path, number: int, target: Path) -> Path:
    """The file system of a partition (0 boot, 1 root A, 2 root B, 3 data), taken out by its place alone."""
    with image.open("rb") as file:
        file.seek((_START + number * _PARTITION) * _SECTOR)
        target.write_bytes(file.read(_PARTITION * _SECTOR))
    return target


def listing(file_system: Path, directory: str) -> dict[str, tuple[int, int, int]]:
    """What debugfs sees in a directory: name to mode, uid, gid."""
    lines = _run("debugfs", "-R", f"ls -l {directory}", str(file_system)).splitlines()
    rows = [line.split() for line in lines if line.strip()]
    return {row[-1]: (int(row[1], 8), int(row[3]), int(row[4])) for row in rows}


def content(file_system: Path, path: str) -> bytes:
    """What debugfs reads from a file."""
    return _run("debugfs", "-R", f"cat {path}", str(file_system)).encode()


def _run(*command: str, given: str = "") -> str:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{_SBIN}"}
    done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout

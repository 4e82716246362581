"""A device's files, as a folder or as one archive: staged beside their place, synced by many, then renamed."""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtls_ambassador.files import WriteError

STAGING = ".staging"
"""Folder within the batch's: what is in it is not finished, and nobody's."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a device.

    Attributes:
        name: Without folder.
        data: Its bytes, which may be secret.
        mode: Its permission bits.
    """

    name: str
    data: bytes = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Package:
    """What one device gets.

    Attributes:
        name: Of the folder, or of the archive with its ending.
        files: What is in it.
    """

    name: str
    files: tuple[File, ...]


def archive(name: str, files: Iterable[File], at: int) -> Package:
    """The same as one archive, `NAME.tar.gz`, with one folder in it.

    Args:
        name: The folder.
        files: What is in it.
        at: Time of the files in it, seconds since 1970.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for file in files:
            member = tarfile.TarInfo(f"{name}/{file.name}")
            member.size, member.mode, member.mtime = len(file.data), file.mode, at
            tar.addfile(member, io.BytesIO(file.data))
    return Package(archive_name(name), (File("", buffer.getvalue(), 0o600),))


def archive_name(name: str) -> str:
    """The archive of a device."""
    return f"{name}.tar.gz"


def write(out: Path, packages: Sequence[Package]) -> None:
    """Write packages whole or not at all, also where power fails: stage all, sync once, rename all, sync once.

    Args:
        out: The batch's folder, with `STAGING` in it.
        packages: None of their names may be there. The umask must let their modes through.

    Raises:
        WriteError: a file cannot be written; the staged ones may still be there.
    """
    staging = f"{out}/{STAGING}"
    try:
        for package in packages:
            _stage(f"{staging}/{package.name}", package)
        sync(out)
        for package in packages:
            os.rename(f"{staging}/{package.name}", f"{out}/{package.name}")  # noqa: PTH104  # thousands a second
        sync(out)
    except OSError as error:
        raise WriteError(
            f"cannot write {error.filename or out}: {error.strerror}",
            "See that the folder has room and may be written by this user; then run the same command again.",
        ) from error


def sync(directory: Path) -> None:
    """Bring the file system that `directory` is on to its disk (Linux: syncfs(2)).

    Raises:
        OSError: the disk reports an error.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(directory))
    finally:
        os.close(descriptor)


def clear_staging(out: Path) -> None:
    """Remove whatever an earlier run left half-written, and make the folder for this one.

    Raises:
        WriteError: it cannot be removed or made.
    """
    try:
        remove_staging(out)
        sync(out)
        (out / STAGING).mkdir(mode=0o700)
    except OSError as error:
        raise WriteError(f"cannot write in {out}: {error.strerror}", "See that this user may write there.") from error


def remove_staging(out: Path) -> None:
    """Remove the folder, at the end of a run.

    Raises:
        OSError: it cannot be removed.
    """
    if (out / STAGING).exists():
        shutil.rmtree(out / STAGING)


def _stage(place: str, package: Package) -> None:
    single = len(package.files) == 1 and not package.files[0].name
    if not single:
        os.mkdir(place)  # noqa: PTH102
    for file in package.files:
        _write(place if single else f"{place}/{file.name}", file)


def _write(path: str, file: File) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
    try:
        left = memoryview(file.data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


_LIBC = ctypes.CDLL(None, use_errno=True)

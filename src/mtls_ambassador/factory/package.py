"""A device's files, as a folder or as one archive: staged beside their place, synced by many, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtls_ambassador.files import WriteError

STAGING = ".staging"
"""Folder within the batch's: what is in it is not finished, and nobody's."""

_ARCHIVE = ".tar.gz"


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
    return f"{name}{_ARCHIVE}"


def name_of_archive(archive: str) -> str:
    """The device of an archive."""
    return archive.removesuffix(_ARCHIVE)


def stage(out: Path, packages: Sequence[Package]) -> None:
    """Write packages whole into `STAGING`, and sync them: what is there afterwards survives a power cut.

    Args:
        out: The batch's folder, with `STAGING` in it. The umask must let the files' modes through.
        packages: None of their names may be staged.

    Raises:
        WriteError: a file cannot be written; the staged ones may still be there.
    """
    with _explained(out):
        for package in packages:
            _stage(f"{out}/{STAGING}/{package.name}", package)
        sync(out)


def staged(out: Path) -> Sequence[str]:
    """The names of what is in `STAGING`, whole or not.

    Raises:
        WriteError: the folder cannot be read.
    """
    with _explained(out):
        return [each.name for each in (out / STAGING).iterdir()] if (out / STAGING).exists() else []


def place(out: Path, names: Iterable[str]) -> None:
    """Rename what is staged to its place, and sync that. Done once more, it goes on where it stopped.

    Args:
        out: The batch's folder.
        names: Of packages that are staged whole.

    Raises:
        WriteError: it cannot be renamed, or something else is in its place.
    """
    with _explained(out):
        for name in names:
            target = f"{out}/{name}"
            if os.path.lexists(target):  # a rename would take a file's place
                raise WriteError(
                    f"{target} was put there while the batch was at work",
                    "Move it away; then run the same command again.",
                )
            os.rename(f"{out}/{STAGING}/{name}", target)  # noqa: PTH104  # thousands a second
        sync(out)


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
    remove_staging(out)
    with _explained(out):
        sync(out)
        (out / STAGING).mkdir(mode=0o700)


def remove_staging(out: Path) -> None:
    """Remove the folder, at the end of a run.

    Raises:
        WriteError: it cannot be removed.
    """
    with _explained(out):
        if (out / STAGING).exists():
            shutil.rmtree(out / STAGING)


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"cannot write {error.filename or out}: {error.strerror}",
            "See that the folder has room and may be written by this user; then run the same command again.",
        ) from error


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

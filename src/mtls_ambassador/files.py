"""Files that are there whole or not at all: write, fsync, rename, fsync the directory."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mtls_ambassador.errors import Error

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}  # FAT, some FUSE and network file systems
_NO_DIRECTORY_FSYNC = {errno.EINVAL, errno.ENOTSUP}


class WriteError(Error):
    """A file could not be written; what was there before is there still."""


class ExistsError(WriteError):
    """A file is there already and must not be overwritten."""


@dataclass(frozen=True)
class Content:
    """What a file shall hold.

    Attributes:
        path: Where. A symbolic link there is replaced, not followed.
        data: Its bytes, which may be secret.
        mode: Its permission bits, whatever the umask.
    """

    path: Path
    data: bytes = field(repr=False)
    mode: int


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Write `path`, in place of what is there: a reader sees the old content or the new, never a part.

    Raises:
        WriteError: the directory is missing, not writable, full, ...
    """
    write_together([Content(path, data, mode)], replace=True)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write `path`, which must not exist yet; of two programs that try at once, one wins and one is told.

    Raises:
        ExistsError: something is there already.
        WriteError: the directory is missing, not writable, full, ...
    """
    write_together([Content(path, data, mode)], replace=False)


def write_together(contents: Sequence[Content], *, replace: bool) -> None:
    """Write several files that belong together, such as a key and its certificate: all of them or none.

    Each file is atomic; a crash of the machine between two of them may still leave the first without the second.

    Args:
        contents: The files, at least one, in the order in which they appear.
        replace: Whether files that exist are replaced; otherwise they are an error.

    Raises:
        ExistsError: without `replace`, one of the files is there already.
        WriteError: a directory is missing, not writable, full, ...
    """
    place = os.replace if replace else _place_new
    with contextlib.ExitStack() as leftovers, contextlib.ExitStack() as undo:
        staged = list[tuple[Path, Content]]()
        for content in contents:  # whatever may fail for want of space or permission fails here, before any change
            with _explained(content.path):
                staged.append((_stage(content, leftovers), content))
        *others, last = staged
        for temporary, content in others:
            with _explained(content.path):
                restore = _restorer(content.path, leftovers)
                place(temporary, content.path)
                undo.callback(restore)
        with _explained(last[1].path):  # nothing comes after it that could want it undone
            place(last[0], last[1].path)
        undo.pop_all()
    for directory in {content.path.parent for content in contents}:
        with _explained(directory):
            _sync_directory(directory)


@contextlib.contextmanager
def replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `path` at the end of the `with`, if that ends well.

    For what is too large to be held in memory; otherwise as `write_atomically`.

    Raises:
        WriteError: the directory is missing, not writable, full, ...
    """
    with contextlib.ExitStack() as leftovers, _explained(path):
        temporary, file = _open_temporary(path, mode, leftovers)
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)


def _stage(content: Content, leftovers: contextlib.ExitStack) -> Path:
    temporary, file = _open_temporary(content.path, content.mode, leftovers)
    with file:
        file.write(content.data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _open_temporary(path: Path, mode: int, leftovers: contextlib.ExitStack) -> tuple[Path, BinaryIO]:
    # In the same directory, since a rename does not cross file systems.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    # O_EXCL does not follow a planted link. The mode counts from the first moment, fchmod adds what the umask took.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    leftovers.callback(temporary.unlink, missing_ok=True)
    os.fchmod(descriptor, mode)
    return temporary, os.fdopen(descriptor, "wb")


def _place_new(temporary: Path, path: Path) -> None:
    # A hard link fails where a rename would overwrite; the temporary name goes with the leftovers.
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.rename(path)


def _restorer(path: Path, leftovers: contextlib.ExitStack) -> Callable[[], object]:
    if not path.is_file():
        return lambda: path.unlink(missing_ok=True)
    old = _stage(Content(path, path.read_bytes(), path.stat().st_mode & 0o7777), leftovers)
    return lambda: old.replace(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise ExistsError(f"{path} is there already", "Move it away, or write elsewhere.") from error
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror}",
            "See that its directory exists, has room and may be written by this user.",
        ) from error

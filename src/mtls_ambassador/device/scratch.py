"""Folders for unfinished work beside its target. It holds private keys and gigabytes, so it does not outlive a kill.

Each folder is locked by the program at work in it. One without a lock was left by a program that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".mtls-ambassador-"


@contextlib.contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A folder (mode 0700) that is removed at the block's end; before, those of killed programs are removed.

    Args:
        beside: The folder to make it in: the target's, since a rename does not cross file systems.

    Raises:
        OSError: it cannot be made.
    """
    _clear(beside)
    # Locked before it has the name by which it would be taken for a left one.
    unnamed = Path(tempfile.mkdtemp(prefix=".", dir=beside))
    with _opened(unnamed) as descriptor:
        _lock(descriptor)
        directory = unnamed.rename(beside / f"{_PREFIX}{unnamed.name[1:]}")
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _clear(beside: Path) -> None:
    for left in beside.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), _opened(left) as descriptor:
            if _lock(descriptor):
                # A program that the killed one had begun may still write there: the next time takes the rest.
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether it is locked now: not if another has it, or the file system has no locks; then nothing is removed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

"""The folder of a batch: whose it is, and that one run at a time works in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mtls_ambassador.factory.errors import BatchError
from mtls_ambassador.files import WriteError, write_atomically

SETTINGS = "batch.json"

Settings = Mapping[str, object]
"""What must not change while a batch is going on: option to value, as JSON has them."""


@contextlib.contextmanager
def locked(out: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Make the folder if it is missing, and hold it: another run, and its processes, must have ended.

    A process that is forked meanwhile holds it too. So whoever gets it knows that nothing of a killed run still writes.

    Args:
        out: The folder.
        waiting: Called if another run holds it.

    Raises:
        WriteError: the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise WriteError(f"cannot make the folder {out}: {error.strerror}", "Name another with --out.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def identify(out: Path, settings: Settings) -> str:
    """The identifier of the batch in a folder; a new one where there is none.

    Raises:
        BatchError: the batch there was begun with other settings, or its file is damaged.
        WriteError: the file cannot be written.
    """
    path = out / SETTINGS
    if not path.exists():
        batch = secrets.token_hex(8)
        text = json.dumps({"batch": batch, "settings": settings}, indent=1, ensure_ascii=False)
        write_atomically(path, text.encode() + b"\n", 0o644)
        return batch
    try:
        found = json.loads(path.read_bytes())
        batch, before = str(found["batch"]), dict(found["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BatchError(
            f"{path} is not what a batch leaves there", "Put it back from a backup, or name another folder with --out."
        ) from error
    now = json.loads(json.dumps(settings))
    changed = [option for option in now if now[option] != before.get(option)]
    if changed:
        raise BatchError(
            f"the batch in {out} was begun with another {' and '.join(changed)} "
            f"({', '.join(f'{option} {before.get(option)!r}' for option in changed)})",
            "Go on with the same options, or name another folder with --out.",
        )
    return batch

"""Power fails, or a process is killed, at any step of a checkpoint; somebody takes what is there, and it goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from mtls_ambassador.factory import folder, manifest, package, rows, run, template
from mtls_ambassador.factory.items import Items
from mtls_ambassador.factory.manifest import Layout
from mtls_ambassador.factory.orders import Naming
from mtls_ambassador.factory.rows import Problem
from mtls_ambassador.factory.run import Job, Outcome
from mtls_ambassador.factory.worker import Recipe
from mtls_ambassador.pki import authority, signer
from mtls_ambassador.pki.entries import Kind, Status, serial_text
from mtls_ambassador.pki.index import Index

NOW = datetime.now(UTC)
NUMBER = 40
CHECKPOINT = 8


class Watcher:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def waiting(self) -> None:
        pass

    def problem(self, problem: Problem) -> None:
        self.problems.append(problem)

    def progress(self, done: int, made: int) -> None:
        pass

    def stopping(self) -> bool:
        return False


def job(directory: Path, *, archives: bool, again: bool = False) -> Job:
    recipe = Recipe(signer.load(directory, NOW), directory / "out", "out", NOW, archives=archives)
    cn = template.parse("d{n}")
    return Job(
        directory,
        rows.counted(NUMBER),
        Naming(cn, cn),
        recipe,
        Layout(archives, recipe.key_name, None),
        {"--cn": "d{n}"},
        2,
        CHECKPOINT,
        again=again,
    )


def go_on(directory: Path, *, archives: bool = False, again: bool = False) -> Outcome:
    """A run to the end, without a row that could not be used."""
    watcher = Watcher()
    outcome = run.run(job(directory, archives=archives, again=again), watcher)
    assert watcher.problems == []
    return outcome


def power_cut() -> None:
    """Ends the run and its workers."""
    os.killpg(0, signal.SIGKILL)


def parents_end() -> None:
    """Ends the run only, or a worker if that calls it."""
    os.kill(os.getpid(), signal.SIGKILL)


def at(owner: Any, name: str, die: Callable[[], None], *, call: int, after: bool) -> None:
    """Die at a call of a function, before or after it."""
    real, calls = getattr(owner, name), iter(range(1, 1_000_000))

    def function(*arguments: Any, **named: Any) -> Any:
        last = (name != "_send" or arguments[1] is None) and next(calls) == call
        if last and not after:
            die()
        result = real(*arguments, **named)
        if last:
            die()
        return result

    setattr(owner, name, function)


Place = tuple[Any, str, int, bool]
STEPS: dict[str, Place] = {
    "certificates are made": (Items, "reserve", 2, False),
    "they are pending": (Items, "reserve", 2, True),
    "some are staged": (package, "_stage", 3, True),
    "all are staged": (package, "stage", 2, True),
    "before they are issued": (Index, "finish", 2, False),
    "they are issued": (Index, "finish", 2, True),
    "some are renamed": (package, "place", 2, False),
    "one is renamed": (os, "rename", 11, True),
    "all are renamed": (package, "place", 2, True),
    "a worker was told to rename": (run, "_send", 2, True),
    "the manifest is not written": (manifest, "write", 1, False),
}


@pytest.mark.parametrize(
    ("die", "archives"),
    [(power_cut, False), (parents_end, False), (parents_end, True)],
    ids=["power cut", "killed", "killed with archives"],
)
@pytest.mark.parametrize("step", STEPS)
def test_whatever_it_was_at_no_device_gets_two(
    tmp_path: Path, step: str, die: Callable[[], None], archives: bool
) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    owner, name, call, after = STEPS[step]

    def killed() -> None:
        os.setsid()
        at(owner, name, die, call=call, after=after)
        run.run(job(tmp_path, archives=archives), Watcher())

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode != 0
    out, shipped = tmp_path / "out", tmp_path / "shipped"
    shipped.mkdir()
    with folder.locked(out, lambda: None):  # the last process of that run has ended
        for place in sorted(out.glob("d*"))[::2]:
            place.rename(shipped / place.name)
    go_on(tmp_path, archives=archives)

    with Index.open(tmp_path, writable=False) as index:
        entries = {entry.serial: entry for entry in index.entries(kind=Kind.DEVICE)}
    assert {entry.status for entry in entries.values()} == {Status.VALID}
    assert sorted(entry.subject for entry in entries.values()) == sorted(f"CN=d{n}" for n in range(1, NUMBER + 1))
    places = [*out.glob("d*"), *shipped.iterdir()]
    assert sorted(each.name.removesuffix(".tar.gz") for each in places) == sorted(f"d{n}" for n in range(1, NUMBER + 1))
    for place in places:
        if archives:
            shutil.unpack_archive(place, tmp_path / "unpacked", filter="data")
            place = tmp_path / "unpacked" / place.name.removesuffix(".tar.gz")  # noqa: PLW2901
        assert {each.name for each in place.iterdir()} == {"device-private.key", "device-cert.pem"}
        certificate = x509.load_pem_x509_certificate((place / "device-cert.pem").read_bytes())
        assert entries.pop(serial_text(certificate.serial_number)).subject == f"CN={place.name}"
    assert not (out / ".staging").exists()
    again = go_on(tmp_path, archives=archives)
    assert (again.made, again.before, again.total) == (0, NUMBER, NUMBER)

"""A batch from its beginning to its end, as often as it takes.

The CA's index is the truth. A checkpoint (about a thousand devices) goes through these steps, and power may fail, or
the program be killed, within any of them or between two:

1. A worker makes keys and certificates in its memory. Lost: nothing that anybody knows of.
2. The index gets the certificates as pending, with the devices' names, in one transaction. From here on the next run
   finds them.
3. The worker writes all files into the folder `.staging`, and syncs the file system. Lost: half-written files where
   nobody looks for them.
4. The index marks the certificates as issued, in one transaction. Their files are whole, but nobody has them yet.
5. The worker renames each device's folder (or archive) to its place, and syncs.

The next run (`_settle`) does step 5 for what is issued and still staged. Then it removes `.staging`, and after that the
entries that are pending: their files were never in any other place, so nobody has these certificates, and their devices
are made anew. It holds a lock that processes of a killed run hold until they end, so nothing changes under it. What was
issued is never made again, even if its files were taken away since. Then the manifest is written out of the index.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol, Self

from mtls_ambassador.errors import Error
from mtls_ambassador.factory import changes, folder, manifest, orders, package
from mtls_ambassador.factory.errors import BatchError, RowError
from mtls_ambassador.factory.items import Item, Items
from mtls_ambassador.factory.manifest import Layout
from mtls_ambassador.factory.orders import Naming, Order
from mtls_ambassador.factory.rows import Problem, Row, Rows
from mtls_ambassador.factory.worker import Failed, Made, Placed, Recipe, Staged, entry, work
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.keys import KeyKind


class Watcher(Protocol):
    """Who is told how a batch goes."""

    def waiting(self) -> None:
        """Another run is at work in the folder."""

    def problem(self, problem: Problem) -> None:
        """A row cannot be used."""

    def progress(self, done: int, made: int) -> None:
        """So many rows are through, so many of them with a new certificate."""

    def stopping(self) -> bool:
        """Whether to begin nothing more, and end well."""


@dataclass(frozen=True)
class Job:
    """A batch that is asked for.

    Attributes:
        directory: The CA's folder.
        rows: The devices.
        naming: How they are named.
        recipe: How they are made.
        layout: What the manifest has.
        settings: What must be the same when it is gone on with.
        jobs: How many processes make them.
        checkpoint: How many devices are written between two syncs.
        foreign_keys: Whether the keys came from elsewhere.
        again: Whether a device may get one more certificate, see `Items`.
    """

    directory: Path
    rows: Rows
    naming: Naming
    recipe: Recipe
    layout: Layout
    settings: folder.Settings
    jobs: int
    checkpoint: int
    foreign_keys: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        made: Devices that got a certificate in this run.
        before: Rows whose devices had theirs from an earlier run.
        revoked: Rows whose devices had theirs, but it is revoked now: they are not in the manifest.
        problems: Rows that could not be used.
        total: Devices in the manifest.
        complete: Whether all rows were read.
    """

    made: int
    before: int
    revoked: int
    problems: int
    total: int
    complete: bool


_OWN = frozenset({folder.SETTINGS, manifest.CSV, manifest.JSON})


def checkpoint_of(kind: KeyKind) -> int:
    """How many devices of a kind of key are written between two syncs: about half a second's work, or some of RSA's."""
    return 16 if kind in {KeyKind.RSA3072, KeyKind.RSA4096} else 1000


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def run(job: Job, watcher: Watcher) -> Outcome:
    """Begin a batch, or go on with it, until its rows end or the watcher says so.

    Raises:
        BatchError: the folder is another batch's, the list cannot be read, or a worker was killed.
        WriteError: files cannot be written.
        IndexFileError: the index cannot be written.
    """
    out = job.recipe.out
    with ExitStack() as stack:
        stack.enter_context(folder.locked(out, watcher.waiting))
        batch = folder.identify(out, job.settings)
        # Before the index is opened: a database connection must not be carried into another process.
        workers = stack.enter_context(_Workers(job.recipe, job.jobs))
        items = Items(stack.enter_context(Index.open(job.directory)), batch, job.again)
        _settle(items, job.recipe)
        reading = stack.enter_context(_Reading(job, items, watcher))
        made = _issue(job, items, reading, workers, watcher)
        package.remove_staging(out)
        total = manifest.write(out, items.issued(), job.layout)
    return Outcome(made, reading.before, reading.revoked, reading.problems, total, not reading.stopped)


def _settle(items: Items, recipe: Recipe) -> None:
    package.place(recipe.out, [each for each in package.staged(recipe.out) if items.is_issued(recipe.name(each))])
    package.clear_staging(recipe.out)
    items.discard([item.serial for item in items.pending()])


def _issue(job: Job, items: Items, reading: _Reading, workers: _Workers, watcher: Watcher) -> int:
    made = 0
    writing: dict[Connection, list[str]] = {}
    checkpoints = iter(lambda: tuple(itertools.islice(reading, job.checkpoint)), ())

    def feed(worker: Connection) -> None:
        if (checkpoint := next(checkpoints, None)) is not None:
            _send(worker, checkpoint)
            busy.add(worker)

    busy = set[Connection]()
    for idle in workers.connections:
        feed(idle)
    while busy:
        for ready in wait(list(busy)):
            assert isinstance(ready, Connection)  # noqa: S101
            worker = ready
            match _received(worker):
                case Made(certified, problems):
                    refused = items.reserve(
                        ((each.item, entry(job.recipe, each)) for each in certified), foreign_keys=job.foreign_keys
                    )
                    _send(worker, frozenset(refused))
                    writing[worker] = [each.item.serial for each in certified if each.item.serial not in refused]
                    for problem in problems:
                        reading.reject(problem)
                    for each in certified:
                        if each.item.serial in refused:
                            reading.reject(Problem(each.where, refused[each.item.serial]))
                case Failed(what, remedy):
                    raise BatchError(what, remedy)
                case Staged():
                    items.index.finish(writing[worker])
                    _send(worker, None)
                case Placed():
                    made += len(writing.pop(worker))
                    busy.remove(worker)
                    watcher.progress(made + reading.before + reading.revoked + reading.problems, made)
                    feed(worker)
    return made


def _received(worker: Connection) -> object:
    with _told_of_its_end():
        return worker.recv()


def _send(worker: Connection, message: object) -> None:
    with _told_of_its_end():
        worker.send(message)


@contextmanager
def _told_of_its_end() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionResetError, BrokenPipeError) as error:
        raise BatchError(
            "a process of the batch was killed, perhaps for want of memory",
            "Run the same command again: it goes on where it stopped.",
        ) from error


class _Reading:
    """Rows on their way to orders: those that are issued, or cannot be used, are taken out."""

    def __init__(self, job: Job, items: Items, watcher: Watcher) -> None:
        self.before = 0
        self.revoked = 0
        self.problems = 0
        self.stopped = False
        self._job = job
        self._items = items
        self._watcher = watcher
        self._resumed = items.count() > 0
        # On disk as soon as it is large, so that a million names take no more memory than ten.
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.execute("CREATE TABLE seen (name TEXT NOT NULL PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID")
        self._seen.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._seen.close()

    def __iter__(self) -> Iterator[Order]:
        return self

    def __next__(self) -> Order:
        while not self._watcher.stopping():
            row = next(self._job.rows)
            if isinstance(row, Problem):
                self.reject(row)
                continue
            try:
                order = self._order(row)
            except Error as error:
                self.reject(Problem(row.where, error.what))
                continue
            if order is not None:
                return order
        self.stopped = True
        raise StopIteration

    def reject(self, problem: Problem) -> None:
        self.problems += 1
        self._watcher.problem(problem)

    def _order(self, row: Row) -> Order | None:
        order = orders.order(row, self._job.naming)
        if self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (order.name, row.where)).rowcount == 0:
            (where,) = self._seen.execute("SELECT place FROM seen WHERE name = ?", (order.name,)).fetchone()
            raise RowError(f"{order.name} is the name at {where} already")
        place = self._job.recipe.out / self._job.recipe.place(order.name)
        if self._resumed and (item := self._items.find(order.name)) is not None:
            if not self._items.is_revoked(order.name):
                self._require_same(order, item)
                self.before += 1
                return None
            if not self._job.again:
                self.revoked += 1
                return None
            if os.path.lexists(place):
                raise RowError(f"{place} has the revoked certificate, serial {item.serial}: move it away")
        if os.path.lexists(place) or place.name in _OWN:
            raise RowError(f"{place} is there already, and not of this batch")
        return order

    def _require_same(self, order: Order, item: Item) -> None:
        entry = self._items.index.find(item.serial) if changes.is_judged_by_certificate(order) else None
        if (what := changes.difference(order, item, entry)) is not None:
            raise RowError(
                f"{order.name} was issued with {what}. If it shall have another certificate: revoke serial "
                f"{item.serial}, move its files away, and run this with --again"
            )
        if order.identity != item.identity:
            self._items.identify(order.name, order.identity)


class _Workers:
    """Processes that end when this one does."""

    def __init__(self, recipe: Recipe, number: int) -> None:
        # Forked, since the CA's key goes with the memory; spawned ones would need it written to a pipe.
        self._context = multiprocessing.get_context("fork")
        pairs = [self._context.Pipe() for _ in range(number)]
        self.connections: Sequence[Connection] = [ours for ours, _ in pairs]
        theirs = [connection for _, connection in pairs]
        self._processes = [
            self._context.Process(target=_begin, args=(recipe, each, [*self.connections, *theirs])) for each in theirs
        ]
        for process in self._processes:
            process.start()
        for connection in theirs:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.close()
        for process in self._processes:
            process.join()


def _begin(recipe: Recipe, own: Connection, inherited: Sequence[Connection]) -> None:
    # Whoever kept an end of another's pipe open would keep that one waiting for a process that is gone.
    for connection in inherited:
        if connection is not own:
            connection.close()
    work(recipe, own)

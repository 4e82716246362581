"""Whom operators ask: the running edge through its control socket, or else the ledger itself."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlencode

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from mtls_ambassador.config.values import AuditTarget
from mtls_ambassador.devices.answers import Answer
from mtls_ambassador.devices.changes import adoption_as_answer, exact_target, new_adoptions, noted, what_to_forget
from mtls_ambassador.devices.control_socket import control_socket
from mtls_ambassador.devices.operators import SUDO_HEADER, Operator, operator
from mtls_ambassador.devices.questions import explained, list_page, look_up, report, shown
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.audit import append
from mtls_ambassador.ledger.database import Database, open_database, opened_for_reading, words, writing
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Adoption, Event
from mtls_ambassador.ledger.writes import write

_PATIENCE = 120.0


class Source(Protocol):
    """Answers and changes; the answers are the same whoever gives them."""

    def devices(self, which: DeviceFilter) -> Iterator[Answer]:
        """A list."""

    def show(self, query: str) -> Iterator[Answer]:
        """Everything about one thing."""

    def explain(self, query: str) -> Iterator[Answer]:
        """The same, explained."""

    def report(self, since: dt.datetime) -> Iterator[Answer]:
        """What a binding rule would have refused."""

    def adopt(self, said: Sequence[Adoption]) -> Answer:
        """Note adoptions, `changes.BATCH` at most; all of them or none."""

    def target(self, query: str) -> Answer:
        """What is to be forgotten."""

    def forget(self, target: Answer) -> Answer:
        """Forget it."""


class RunningEdge:
    """The edge with this control socket.

    Args:
        path: The socket.
        sudo_uid: What `sudo` says of who called it.

    Attributes:
        unaudited: None: it has an audit log of its own, if it has one.
    """

    def __init__(self, path: Path, sudo_uid: str | None = None) -> None:
        self._path = path
        self._headers = {} if sudo_uid is None else {SUDO_HEADER: sudo_uid}
        self.unaudited = None

    def __str__(self) -> str:
        return f"the running edge ({self._path})"

    @property
    def answers(self) -> bool:
        """Whether somebody listens there.

        Raises:
            Error: one does, but not to this user.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except PermissionError as error:
                raise Error(
                    f"this user may not ask the edge: {self._path}: {error.strerror}",
                    "Run it as the user that the edge runs as, or as root.",
                ) from error
            except OSError:
                return False
        return True

    def devices(self, which: DeviceFilter) -> Iterator[Answer]:
        """See `Source`."""
        moments = {
            "refused_since": which.refused_since,
            "contested_since": which.contested_since,
            "warned_since": which.warned_since,
        }
        given = {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
        return self._ask("/devices", given | ({"adopted": "1"} if which.adopted else {}))

    def show(self, query: str) -> Iterator[Answer]:
        """See `Source`."""
        return self._ask("/show", {"query": query})

    def explain(self, query: str) -> Iterator[Answer]:
        """See `Source`."""
        return self._ask("/explain", {"query": query})

    def report(self, since: dt.datetime) -> Iterator[Answer]:
        """See `Source`."""
        return self._ask("/report", {"since": since.isoformat()})

    def adopt(self, said: Sequence[Adoption]) -> Answer:
        """See `Source`."""
        return next(self._ask("/adopt", body=[adoption_as_answer(adoption) for adoption in said]))

    def target(self, query: str) -> Answer:
        """See `Source`."""
        return next(self._ask("/forget", {"query": query}))

    def forget(self, target: Answer) -> Answer:
        """See `Source`."""
        return next(self._ask("/forget", body=dict(target)))

    def _ask(self, path: str, query: dict[str, str] | None = None, body: object = None) -> Iterator[Answer]:
        with contextlib.closing(_Connection(self._path)) as connection:
            try:
                connection.request(
                    "GET" if body is None else "POST",
                    f"{path}?{urlencode(query, errors='surrogatepass')}" if query else path,
                    None if body is None else json.dumps(body),
                    self._headers,
                )
                response = connection.getresponse()
                while text := response.readline():
                    answer = json.loads(text)
                    if "error" in answer:
                        raise Error(str(answer["error"]), str(answer.get("remedy", "")))
                    yield answer
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Error(
                    f"the edge did not answer to the end ({self._path}): {type(error).__name__}: {error}",
                    "See its log. If it is another version of this program, use that version's command.",
                ) from error


class _Connection(http.client.HTTPConnection):
    """HTTP/1.1 through a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("edge", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class LedgerItself:
    """The ledger, opened beside whatever edge writes to it; a context manager.

    Args:
        database: Where it is.
        by: Who gives the commands.
        audit_log: The edge's, as far as its configuration is at hand.

    Attributes:
        unaudited: Why changes are in the ledger's history only, and not in the audit log; None: they are in both, or
            there were none.
    """

    def __init__(self, database: Database, by: Operator, audit_log: AuditTarget | None = None) -> None:
        self._database = database
        self._by = by
        self._audit_log = audit_log
        self.unaudited: str | None = None
        self._stack = contextlib.ExitStack()
        self._writer: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __str__(self) -> str:
        return f"the ledger ({self._database})"

    def devices(self, which: DeviceFilter) -> Iterator[Answer]:
        """See `Source`; opened anew for each page, so that a slow reader holds no transaction."""
        after: int | None = 0
        while after is not None:
            with self._reading() as connection:
                answers, after = list_page(connection, which, after)
            yield from answers

    def show(self, query: str) -> Iterator[Answer]:
        """See `Source`."""
        with self._reading() as connection:
            yield from shown(look_up(connection, query))

    def explain(self, query: str) -> Iterator[Answer]:
        """See `Source`."""
        with self._reading() as connection:
            yield from explained(look_up(connection, query))

    def report(self, since: dt.datetime) -> Iterator[Answer]:
        """See `Source`."""
        with self._reading() as connection:
            yield from report(connection, since, None)

    def adopt(self, said: Sequence[Adoption]) -> Answer:
        """See `Source`; the ledger is made if there is none, so that a fleet can be adopted before the edge starts."""
        with self._writing() as connection:
            events = [noted(adoption, _now(), self._by) for adoption in new_adoptions(connection, said)]
            for event in events:
                write(connection, event)
        self._audit(events)
        return {"kind": "adopted", "noted": len(events), "unchanged": len(said) - len(events)}

    def target(self, query: str) -> Answer:
        """See `Source`."""
        with self._reading() as connection:
            return what_to_forget(connection, query).as_answer()

    def forget(self, target: Answer) -> Answer:
        """See `Source`."""
        with self._writing() as connection:
            found = exact_target(connection, target)
            event = found.event(_now(), self._by)
            write(connection, event)
        self._audit([event])
        return found.as_answer()

    def _audit(self, events: Sequence[Event]) -> None:
        """Tell the edge's audit log, too. What is changed already stays, whatever comes of it."""
        target = self._audit_log
        if not events:
            return
        if target is None:
            self.unaudited = "no audit_log is known here; the edge's configuration (--config) may name one"
        elif target.path is None:
            self.unaudited = "audit_log is the edge's standard output"
        else:
            try:
                append(target.path, events)
            except OSError as error:
                self.unaudited = f"{target.path}: {error.strerror}"

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._explained("read"), opened_for_reading(self._database) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._explained("written"):
            if self._writer is None:
                self._writer = self._stack.enter_context(contextlib.closing(self._open()))
            with writing(self._writer):
                yield self._writer

    def _open(self) -> Connection:
        """A connection that writes. Whatever is there already is neither migrated nor set aside: an edge may use it."""
        file = self._database.file
        if file is not None and not file.exists():
            _require_owner(file.parent)
            return open_database(self._database)
        with opened_for_reading(self._database):
            pass
        return self._database.engine().connect()

    @contextlib.contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise LedgerUnavailable(f"the ledger cannot be {done} ({self._database}): {words(error)}") from error


def find_source(
    state: Path,
    database: Database,
    environment: Mapping[str, str],
    *,
    itself: bool,
    audit_log: AuditTarget | None = None,
) -> RunningEdge | LedgerItself:
    """The running edge if there is one, else the ledger.

    Args:
        state: The edge's state directory.
        database: Its ledger.
        environment: This process's, for what `sudo` says.
        itself: The ledger in any case.
        audit_log: The edge's, as far as its configuration is at hand.

    Raises:
        Error: this user may not ask the edge.
    """
    sudo_uid = environment.get("SUDO_UID")
    edge = RunningEdge(control_socket(state), sudo_uid)
    if not itself and edge.answers:
        return edge
    return LedgerItself(database, operator(os.getuid(), sudo_uid), audit_log)


def _require_owner(directory: Path) -> None:
    """A ledger that the edge's user could not open would be worse than none."""
    if directory.is_dir() and (owner := directory.stat().st_uid) != os.geteuid():
        raise Error(
            f"there is no ledger in {directory} yet, and that directory belongs to another user ({owner})",
            "Run the command as that user, the edge's, or start the edge once.",
        )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)

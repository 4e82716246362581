"""`mtls-ambassador devices`: what the edge knows about devices, why it refuses some, and what operators tell it."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from mtls_ambassador.cli.devices_preauthorize import preauthorize
from mtls_ambassador.config.place import load_place
from mtls_ambassador.config.values import parse_duration
from mtls_ambassador.devices import text
from mtls_ambassador.devices.answers import Answer, line
from mtls_ambassador.devices.changes import BATCH
from mtls_ambassador.devices.manifest import read_manifest
from mtls_ambassador.devices.rows import Entry, ManifestError
from mtls_ambassador.devices.sources import LedgerItself, RunningEdge, find_source
from mtls_ambassador.edge.state import state_directory
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.database import Database
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Adoption
from mtls_ambassador.printable import escaped

_Command = TypeVar("_Command", bound=Callable[..., Any])

LATELY = "7d"
"""Devices authenticate at least once a week."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d.*")


def since(value: str) -> dt.datetime:
    """A time in the past: how long ago (`12h`, `7d`), or a date (`2026-06-01`, also with a time; UTC).

    Raises:
        click.BadParameter: it is neither.
    """
    try:
        if _DATE.fullmatch(value):
            moment = dt.datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=parse_duration(value))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no time; write 12h, 7d or 2026-06-01") from None


def _where(function: _Command) -> _Command:
    """Options that say whom to ask."""
    for option in (
        click.option(
            "--ledger-url-file", metavar="FILE", help="File that holds ledger_url, where several edges share a ledger."
        ),
        click.option(
            "--ledger",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Open this ledger (a SQLite file), whether or not an edge runs.",
        ),
        click.option("--state-dir", metavar="DIRECTORY", help="The edge's state_dir."),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="The edge's configuration file; of it, state_dir, ledger_url and audit_log count.",
        ),
    ):
        function = option(function)
    return function


_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")


def _lately(name: str, help_text: str) -> Callable[[_Command], _Command]:
    return click.option(
        name, is_flag=False, flag_value=LATELY, default=None, type=since, metavar="[SINCE]", help=help_text
    )


@click.group
def devices() -> None:
    """What the edge knows about devices, why it refuses some, and whose an identity is.

    Asks the running edge through the socket in its state directory, or else reads the ledger. The state directory is
    found as the edge finds it: --state-dir, --config, MTLS_STATE_DIR, config.yaml here, or the usual place.
    """


@devices.command("list")
@_lately("--refused", "Who was refused since then (default: 7d), and with which identity.")
@_lately("--contested", "Claimed by several keys by turns since then (default: 7d).")
@_lately("--would-refuse", "That binding would have refused since then (default: 7d), were its mode not warn.")
@click.option("--adopted", is_flag=True, help="Adopted from a manifest or by adopt_until.")
@_as_json
@_where
@click.pass_obj
def list_devices(
    before: Mapping[str, object],
    /,
    *,
    refused: dt.datetime | None,
    contested: dt.datetime | None,
    would_refuse: dt.datetime | None,
    adopted: bool,
    as_json: bool,
    **where: object,
) -> None:
    """List devices; with several filters those for which all hold. SINCE is 12h, 7d or 2026-06-01."""
    which = DeviceFilter(refused_since=refused, contested_since=contested, warned_since=would_refuse, adopted=adopted)
    with _source(before, where) as source:
        answers = source.devices(which)
        _print(map(line, answers) if as_json else (f"{row}\n" for row in text.table(answers)))


@devices.command("show")
@click.argument("query")
@_as_json
@_where
@click.pass_obj
def show(before: Mapping[str, object], /, *, query: str, as_json: bool, **where: object) -> None:
    """Show everything that the ledger has about one device or certificate.

    QUERY: a certificate's subject, CN, serial or SHA-256 fingerprint, an identity attribute (mac=52:54:...) or its
    value, a whole identity (JSON), Mender's device id, or an address.
    """
    with _source(before, where) as source:
        _print_about(list(source.show(query)), query, str(source), text.shown, as_json=as_json)


@devices.command("explain")
@click.argument("query")
@_as_json
@_where
@click.pass_obj
def explain(before: Mapping[str, object], /, *, query: str, as_json: bool, **where: object) -> None:
    """Say whose an identity is, who else claimed it, why somebody is refused, and what to do.

    QUERY: as for `devices show`.
    """
    with _source(before, where) as source:
        _print_about(list(source.explain(query)), query, str(source), text.explained, as_json=as_json)


@devices.command("report")
@click.option(
    "--since", "from_when", type=since, default=LATELY, show_default=True, help="From when on: 12h, 7d or 2026-06-01."
)
@_as_json
@_where
@click.pass_obj
def report(before: Mapping[str, object], /, *, from_when: dt.datetime, as_json: bool, **where: object) -> None:
    """Say what binding would have refused in mode warn, and whether mode refuse is safe."""
    with _source(before, where) as source:
        answers = source.report(from_when)
        _print(map(line, answers) if as_json else (f"{row}\n" for row in text.reported(answers)))


@devices.command("adopt")
@click.argument("manifest", type=click.File(encoding="utf-8-sig", errors="surrogateescape", lazy=False))
@_where
@click.pass_obj
def adopt(before: Mapping[str, object], /, *, manifest: Iterable[str], **where: object) -> None:
    """Say which certificate belongs to which identity, for devices that Mender accepted before.

    MANIFEST: CSV with the columns identity and one of subject, fingerprint and key, or JSON Lines with the same names;
    `-` reads standard input. May be run again; a line that cannot be used is named, and the rest goes on.
    """
    noted = unchanged = faults = 0
    with _source(before, where) as source:
        entries = read_manifest(manifest)

        def usable() -> Iterator[Entry[Adoption]]:
            nonlocal faults
            for entry in entries:
                if isinstance(entry, ManifestError):
                    faults += 1
                    click.echo(escaped(f"{entry.what}. {entry.remedy}"), err=True)
                else:
                    yield entry

        each = usable()
        while batch := list(itertools.islice(each, BATCH)):
            answer = source.adopt([entry.claim for entry in batch])
            noted, unchanged = noted + answer["noted"], unchanged + answer["unchanged"]
    click.echo(f"{noted} adoptions noted, {unchanged} were there already")
    _say_unaudited(source)
    if faults:
        raise Error(
            f"{faults} {'line' if faults == 1 else 'lines'} of the manifest could not be used",
            "Mend them and run the command again: what is noted stays.",
        )


devices.add_command(preauthorize)


@devices.command("forget")
@click.argument("query")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_where
@click.pass_obj
def forget(before: Mapping[str, object], /, *, query: str, yes: bool, **where: object) -> None:
    """Make the ledger forget an identity or a certificate; Mender and the history keep what they have.

    A forgotten identity belongs to the next valid certificate that claims it, as far as Mender agrees. A forgotten
    certificate may claim another identity. QUERY: as for `devices show`, but no address.
    """
    with _source(before, where) as source:
        target = source.target(query)
        what = text.to_be_forgotten(target)
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"this would forget {what}; say --yes where nobody can be asked")
            click.confirm(f"Forget {what}?", abort=True)
        source.forget(target)
        click.echo(f"forgotten: {what}")
        _say_unaudited(source)


@contextlib.contextmanager
def _source(before: Mapping[str, object], options: Mapping[str, object]) -> Iterator[RunningEdge | LedgerItself]:
    """Whom to ask, by the options before the command and after it."""
    given = {key: value for key, value in {**before, **_given(options)}.items() if value is not None}
    config, ledger = given.pop("config_file", None), given.pop("ledger", None)
    place = load_place(Path(str(config)) if config else None, os.environ, given)
    state = state_directory(place.state_dir, os.environ)
    database = Database.at(place.ledger_url, state)
    if ledger is not None:
        database = Database.in_file(Path(str(ledger)))
        if not Path(str(ledger)).is_file():
            raise Error(f"there is no ledger at {ledger}", "Name the file; it is ledger.sqlite3 in the state_dir.")
    with contextlib.ExitStack() as stack:
        source = find_source(state, database, os.environ, itself=ledger is not None, audit_log=place.audit_log)
        yield stack.enter_context(source) if isinstance(source, LedgerItself) else source


def _say_unaudited(source: RunningEdge | LedgerItself) -> None:
    if source.unaudited is not None:
        click.echo(f"in the ledger's history only, not in an audit log: {source.unaudited}", err=True)


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in options.items() if value is not None}


def _print(lines: Iterable[str]) -> None:
    """Write as they come. `click.echo` would flush each of a hundred thousand lines."""
    sys.stdout.writelines(lines)
    sys.stdout.flush()


def _print_about(
    answers: list[Answer], query: str, where: str, one: Callable[[Answer], Iterator[str]], *, as_json: bool
) -> None:
    if answers[0]["kind"] == "nothing":
        raise Error(text.nothing(answers[0], query, where), "Try a part of it, or `mtls-ambassador devices list`.")
    if as_json:
        _print(map(line, answers))
    else:
        _print(f"{row}\n" for row in (one(answers[0]) if len(answers) == 1 else text.several(answers, query)))

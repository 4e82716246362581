"""`mtls-ambassador devices preauthorize`: a manifest's keys into Mender, for owners who run no edge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import click

from mtls_ambassador.cli.progress import Progress
from mtls_ambassador.config.upstream import Upstream, load_upstream
from mtls_ambassador.config.values import Rate, parse_rate
from mtls_ambassador.devices.keys import DeviceKey, read_keys
from mtls_ambassador.devices.preauthorise import AT_ONCE, Kind, Outcome, Preauthorisation
from mtls_ambassador.devices.rows import Entry, ManifestError
from mtls_ambassador.errors import Error
from mtls_ambassador.mender.direct import DirectEgress, client_trust
from mtls_ambassador.mender.errors import ManagementUnavailable
from mtls_ambassador.mender.management import Management
from mtls_ambassador.mender.session import open_session
from mtls_ambassador.observe.logging import configure
from mtls_ambassador.printable import escaped
from mtls_ambassador.stopping import StopSignals

_INTERRUPTED = 130
_EXAMPLES = """\b
Examples:
  export MTLS_MENDER_BACKEND=https://hosted.mender.io MTLS_MENDER_TOKEN_FILE=token
  mtls-ambassador devices preauthorize batch-1/manifest.csv --dry-run
  mtls-ambassador devices preauthorize batch-1/manifest.csv --rate 10/s"""


class _Report:
    """Counts outcomes, and shows them as they come."""

    def __init__(self, total: int) -> None:
        self.counts = Counter[Kind]()
        self.failed = list[dict[str, Any]]()
        self._progress = Progress(total, sys.stderr)

    def told(self, outcome: Outcome) -> None:
        self.counts[outcome.kind] += 1
        if outcome.kind is Kind.FAILED:
            self.fault(outcome.line, outcome.reason, f"line {outcome.line}: {outcome.reason}")
        self._progress.show(self.counts.total(), self.counts.total())

    def fault(self, line: int | None, reason: str, shown: str) -> None:
        self.failed.append({"line": line, "reason": reason.removeprefix(f"line {line}: ")})
        self.say(shown)

    def say(self, words: str) -> None:
        self._progress.say(escaped(words))

    def clear(self) -> None:
        self._progress.clear()


def _rate(_context: click.Context, _option: click.Parameter, value: str) -> Rate | None:
    try:
        return parse_rate(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error


@click.command("preauthorize", epilog=_EXAMPLES)
@click.argument("manifest", type=click.File(encoding="utf-8-sig", errors="surrogateescape", lazy=False))
@click.option(
    "--rate",
    metavar="RATE",
    callback=_rate,
    default="10/s",
    show_default=True,
    help="Calls at most: 10/s, 300/m, or off.",
)
@click.option("--skip-until", type=click.IntRange(min=1), default=1, metavar="LINE", help="Begin at this line.")
@click.option(
    "--check",
    is_flag=True,
    help="Of each device that Mender knows already, look whether it has this key, and accepts it; one more call each.",
)
@click.option("--dry-run", is_flag=True, help="Read manifest and settings, and call nobody.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The edge's configuration file; of it, mender_... and insecure_skip_verify count.",
)
@click.option("--mender-backend", metavar="URL", help="URL of the Mender Server.")
@click.option("--mender-user", metavar="E-MAIL", help="E-mail of a Mender user that may preauthorise devices.")
@click.option("--mender-pass-file", metavar="FILE", help="File that holds that user's password.")
@click.option("--mender-token-file", metavar="FILE", help="File that holds a personal access token instead.")
@click.option("--mender-ca", metavar="FILE", help="PEM file of the CAs trusted for the Mender Server.")
@click.pass_obj
def preauthorize(
    before: Mapping[str, object],
    /,
    *,
    manifest: TextIO,
    rate: Rate | None,
    skip_until: int,
    check: bool,
    dry_run: bool,
    as_json: bool,
    **settings: object,
) -> None:
    """Preauthorise the devices of a manifest in Mender, where no edge does it. Never overrides what is there.

    MANIFEST: what `pki batch` wrote (manifest.csv, manifest.json), or CSV or JSON Lines with identity and one of spki
    (base64 of the public key's DER), public_key_file and certificate (PEM files, from the manifest's folder on); `-`
    reads standard input. A line that cannot be used is named, and the rest goes on. May be interrupted and run again:
    what Mender has already costs one call a line, and stays as it is.
    """
    given = {key: value for key, value in {**before, **_given(settings)}.items() if value is not None}
    config = given.pop("config_file", None)
    upstream = load_upstream(Path(str(config)) if config else None, os.environ, given)
    folder = Path() if manifest is sys.stdin else Path(manifest.name).parent
    found = list(read_keys(manifest, lambda name: (folder / name).read_bytes()))
    entries = [item for item in found if isinstance(item, Entry) and item.line >= skip_until]
    report = _Report(len(entries))
    for item in found:
        if isinstance(item, ManifestError) and (item.line or skip_until) >= skip_until:
            report.fault(item.line, item.what, f"{item.what}. {item.remedy}")
    run = None
    if not dry_run:
        configure("text", debug=False)
        run = asyncio.run(_preauthorise(entries, upstream, report, rate=rate, check=check))
        report.clear()
    _tell(report, run, len(entries), upstream, as_json=as_json)
    if run is not None and run.trouble is not None:
        raise Error(f"stopped at line {run.next_line}: {run.trouble.what}", _remedy(run))
    if run is not None and run.next_line is not None:
        sys.exit(_INTERRUPTED)
    if report.failed:
        sys.exit(1)


async def _preauthorise(
    entries: list[Entry[DeviceKey]], upstream: Upstream, report: _Report, *, rate: Rate | None, check: bool
) -> Preauthorisation:
    trust = client_trust(upstream.mender_ca, verify=not upstream.insecure_skip_verify)
    if upstream.mender_backend.in_clear:
        report.say("mender_backend is http://: credentials are sent in clear")
    if upstream.insecure_skip_verify:
        report.say("insecure_skip_verify is set: anybody on the way to Mender can read and change everything")
    signals = StopSignals()
    async with DirectEgress(upstream.mender_backend, trust, connections=AT_ONCE) as egress:
        management = Management(egress, open_session(upstream.credentials, egress))
        run = Preauthorisation(
            management, rate=rate, check=check, stop=signals.stop, told=report.told, notice=report.say
        )
        working = asyncio.ensure_future(run.run(entries))
        hurried = asyncio.ensure_future(signals.impatient.wait())
        await asyncio.wait((working, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not working.done():
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
            raise click.Abort
        await working
    return run


def _tell(report: _Report, run: Preauthorisation | None, usable: int, upstream: Upstream, *, as_json: bool) -> None:
    counts = report.counts
    next_line = run.next_line if run is not None else None
    if as_json:
        summary = {
            "created": counts[Kind.CREATED],
            "known": counts[Kind.KNOWN],
            "failed": report.failed,
            "usable": usable,
            "dry_run": run is None,
            "next_line": next_line,
        }
        click.echo(json.dumps(summary))
    elif run is None:
        click.echo(f"{usable} devices would be sent to {upstream.mender_backend}, {len(report.failed)} cannot be used")
    else:
        click.echo(f"{counts[Kind.CREATED]} created, {counts[Kind.KNOWN]} known, {len(report.failed)} failed")
        if next_line is not None and run.trouble is None:
            click.echo(f"Stopped before the end; --skip-until {next_line} goes on here.")


def _remedy(run: Preauthorisation) -> str:
    remedy = run.trouble.remedy if run.trouble else ""
    if isinstance(run.trouble, ManagementUnavailable) and run.trouble.label == "credentials_refused":
        remedy = "Check mender_user and mender_pass, or mender_token."
    return f"{remedy} Then go on with --skip-until {run.next_line}.".strip()


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in options.items() if value is not None}

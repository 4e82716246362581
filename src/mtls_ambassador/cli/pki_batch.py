"""`mtls-ambassador pki batch`."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Self

import click
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.cli import pki_options as options
from mtls_ambassador.cli import upstream
from mtls_ambassador.cli.progress import Progress
from mtls_ambassador.config.values import BackendUrl
from mtls_ambassador.device import conf as configuration
from mtls_ambassador.device.image import ARTIFACT, SUFFIXES
from mtls_ambassador.device.material import read_tenant_token
from mtls_ambassador.factory import envelope, rows, template
from mtls_ambassador.factory.errors import BatchError
from mtls_ambassador.factory.manifest import CSV, JSON, Layout
from mtls_ambassador.factory.orders import Naming
from mtls_ambassador.factory.package import File
from mtls_ambassador.factory.rows import Problem, Rows
from mtls_ambassador.factory.run import Job, Outcome, checkpoint_of, processors, run
from mtls_ambassador.factory.worker import Recipe
from mtls_ambassador.pki import entries, profiles, signer
from mtls_ambassador.pki.issuing import recorded_path
from mtls_ambassador.pki.keys import KeyKind
from mtls_ambassador.pki.signer import CA_CHAIN
from mtls_ambassador.printable import escaped

INTERRUPTED = 130
_FILE = click.Path(path_type=Path, dir_okay=False)
_LISTED_PROBLEMS = 100


@click.command
@click.argument("devices", metavar="[LIST]", type=_FILE, required=False)
@click.option("--count", type=click.IntRange(1), metavar="N", help="So many devices, numbered {n}, without a list.")
@click.option(
    "--csr-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Sign the requests (CSR) in this folder; {file} is a request's file name without its ending.",
)
@click.option("--cn", metavar="TEMPLATE", help="Common name. Default with --csr-dir: the request's own subject.")
@click.option("--san", metavar="TEMPLATE", multiple=True, help="One more name: DNS:..., IP:... or URI:... Repeatable.")
@click.option(
    "--name",
    metavar="TEMPLATE",
    help="Name of the device's folder or archive. Default: the common name; with --csr-dir {file}.",
)
@click.option(
    "--identity",
    metavar="ATTRIBUTE=TEMPLATE",
    multiple=True,
    help="Identity that the device will claim at Mender, for the manifest. Repeatable.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the batch.")
@click.option("--tar", is_flag=True, help="One NAME.tar.gz a device, rather than a folder.")
@click.option(
    "--encrypt-to",
    type=_FILE,
    metavar="RECIPIENT.pem",
    multiple=True,
    help="Write private keys only encrypted to this certificate (RSA), as CMS. Repeatable: each recipient opens them.",
)
@click.option("--server-url", metavar="URL", help="The edge: each device gets a mender.conf that leads to it.")
@click.option("--conf", type=_FILE, help="A mender.conf to put what the edge needs into.")
@click.option("--tenant-token-file", type=_FILE, metavar="FILE", help="File that holds TenantToken, for hosted Mender.")
@upstream.option
@click.option(
    "--image",
    type=click.Choice([suffix for suffix in SUFFIXES if suffix != ARTIFACT]),
    help="Manifest column image, for `device image --manifest`: NAME with the ending of that template.",
)
@options.key_type
@options.days(profiles.DEVICE_DAYS)
@options.subject
@click.option(
    "--again",
    is_flag=True,
    help="Also devices whose common name has a valid certificate already, or whose own was revoked.",
)
@click.option("--jobs", type=click.IntRange(1), help="Processes. Default: one for each processor.")
@click.option(
    "--checkpoint", type=click.IntRange(1), metavar="N", help="Devices between two syncs. Default: 1000, of RSA 16."
)
@options.passphrase_file
@options.directory
@options.as_json
@options.example(
    "mtls-ambassador pki batch --count 10000 --cn 'device-{n:06}' --out batch-1",
    "mtls-ambassador pki batch devices.csv --cn '{serial}.devices.example.com' --name '{serial}' \\",
    "    --identity mac={mac} --server-url https://my-server.com:8080 --out batch-2",
    "mtls-ambassador pki batch devices.jsonl --cn '{serial}' --tar --encrypt-to recipient.pem --out batch-3",
    "mtls-ambassador pki batch --csr-dir requests --out batch-4",
)
@click.pass_context
def batch(
    context: click.Context,
    /,
    devices: Path | None,
    count: int | None,
    csr_dir: Path | None,
    cn: str | None,
    san: tuple[str, ...],
    name: str | None,
    identity: tuple[str, ...],
    *,
    out: Path,
    tar: bool,
    encrypt_to: tuple[Path, ...],
    server_url: str | None,
    conf: Path | None,
    tenant_token_file: Path | None,
    upstreams: tuple[BackendUrl, ...],
    image: str | None,
    key_type: str,
    days: int,
    again: bool,
    jobs: int | None,
    checkpoint: int | None,
    passphrase_file: Path | None,
    directory: Path,
    as_json: bool,
    **subject: str | None,
) -> None:
    """Make keys and certificates for many devices, with a manifest.

    The devices come from LIST (CSV with a header, or JSON Lines if it ends in .jsonl), from --count, or from --csr-dir.
    In a TEMPLATE, columns of the list stand in braces.

    Each device's folder has device-private.key, device-cert.pem, ca-chain.pem and, with --server-url or --conf,
    mender.conf. manifest.csv and manifest.json list all: `devices adopt`, `devices preauthorize` and, with --image,
    `device image --manifest` read either.

    Interrupted, by Ctrl-C or without power, the same command goes on where it stopped, and issues nothing twice. So it
    does with a list that was mended or has grown. A row that cannot be used is told with its line, the others go on,
    and the status is 1.
    """
    if sum(source is not None for source in (devices, count, csr_dir)) != 1:
        raise click.UsageError("name the devices: one of LIST, --count and --csr-dir")
    if cn is None and csr_dir is None:
        raise click.UsageError("give --cn, such as 'device-{n:06}' or '{serial}.devices.example.com'")
    if csr_dir is not None and encrypt_to:
        raise click.UsageError("there is no private key to --encrypt-to with --csr-dir")
    if image is not None and (tar or encrypt_to or csr_dir is not None):
        raise click.UsageError(
            "--image needs each device's key and certificate as files: without --tar, --encrypt-to and --csr-dir"
        )
    if cn is None and any(value is not None for value in subject.values()):
        raise click.UsageError("fields of a subject need --cn; without it the request's own subject is taken")
    now = datetime.now(UTC)
    naming = _naming(cn, san, name or cn or "{file}", identity)
    ca = signer.load(directory, now, options.passphrase(passphrase_file))
    known = (*upstreams, *upstream.of_the_edge(context))
    files = _files(directory, ca, _configuration(server_url, conf, tenant_token_file, known))
    recipe = Recipe(
        ca,
        out,
        recorded_path(directory, out / "x").removesuffix("/x"),
        now,
        days,
        KeyKind(key_type),
        options.subject_fields(subject),
        tar,
        files,
        tuple(envelope.read_recipient(path) for path in encrypt_to),
    )
    found, total = _source(devices, count, csr_dir)
    job = Job(
        directory,
        found,
        naming,
        recipe,
        Layout(tar, None if csr_dir is not None else recipe.key_name, image),
        _settings(recipe, naming, requests=csr_dir is not None, image=image),
        jobs or processors(),
        checkpoint or checkpoint_of(recipe.kind),
        csr_dir is not None,
        again,
    )
    begun = time.monotonic()
    with _Watch(total) as watch:
        outcome = run(job, watch)
    _tell(outcome, watch, out, time.monotonic() - begun, as_json=as_json)
    if outcome.problems or not outcome.complete:
        sys.exit(1 if outcome.complete else INTERRUPTED)


class _Watch:
    """Tells a person how the batch goes, and the batch that it shall stop."""

    def __init__(self, total: int) -> None:
        self.problems: list[Problem] = []
        self._progress = Progress(total, sys.stderr)
        self._stop = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._progress.clear()

    def waiting(self) -> None:
        self._progress.say("Another run is at work in this folder; waiting for its end.")

    def problem(self, problem: Problem) -> None:
        if len(self.problems) < _LISTED_PROBLEMS:
            self.problems.append(problem)
        self._progress.say(escaped(problem))

    def progress(self, done: int, made: int) -> None:
        self._progress.show(done, made)

    def stopping(self) -> bool:
        return self._stop

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop = True
        # The second time it ends at once: what it leaves, the next run mends.
        signal.signal(number, self._before[signal.Signals(number)])


def _naming(cn: str | None, san: tuple[str, ...], name: str, identity: tuple[str, ...]) -> Naming:
    attributes = {}
    for text in identity:
        attribute, equals, value = text.partition("=")
        if not equals or not attribute.strip():
            raise click.UsageError(f"--identity {text!r} is not ATTRIBUTE=TEMPLATE, such as mac={{mac}}")
        attributes[attribute.strip()] = template.parse(value)
    return Naming(
        template.parse(name),
        None if cn is None else template.parse(cn),
        tuple(template.parse(each) for each in san),
        attributes,
    )


def _source(devices: Path | None, count: int | None, csr_dir: Path | None) -> tuple[Rows, int]:
    if devices is not None:
        return rows.listed(devices), rows.number_of_lines(devices)
    if csr_dir is not None:
        return rows.requests(csr_dir), rows.number_of_requests(csr_dir)
    return rows.counted(count or 0), count or 0


def _configuration(
    server_url: str | None, conf: Path | None, tenant_token_file: Path | None, upstreams: tuple[BackendUrl, ...]
) -> bytes | None:
    if server_url is None and conf is None:
        if tenant_token_file is not None:
            raise click.UsageError("--tenant-token-file needs --server-url or --conf: it goes into mender.conf")
        return None
    token = None if tenant_token_file is None else read_tenant_token(tenant_token_file)
    wanted = configuration.Wanted(server_url=server_url, tenant_token=token, upstreams=upstreams)
    existing = None if conf is None else configuration.text_of(_read(conf), str(conf))
    return configuration.merge(existing, wanted, name="mender.conf" if conf is None else str(conf)).text.encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BatchError(f"cannot read {path}: {error.strerror}", "See that it exists and may be read.") from error


def _files(directory: Path, ca: profiles.Signer, configuration_text: bytes | None) -> tuple[File, ...]:
    chain = directory / CA_CHAIN
    above = _read(chain) if chain.exists() else ca.certificate.public_bytes(Encoding.PEM)
    files = (File(CA_CHAIN, above),)
    return files if configuration_text is None else (*files, File("mender.conf", configuration_text, 0o600))


def _settings(recipe: Recipe, naming: Naming, *, requests: bool, image: str | None) -> Mapping[str, object]:
    configured = [hashlib.sha256(file.data).hexdigest() for file in recipe.files if file.name == "mender.conf"]
    return {
        "CA": entries.key_text(recipe.ca.certificate.public_key()),
        "--csr-dir": requests,
        "--cn": None if naming.cn is None else naming.cn.text,
        "--san": [each.text for each in naming.san],
        "--name": naming.name.text,
        "--identity": {attribute: each.text for attribute, each in naming.identity.items()},
        "--tar": recipe.archives,
        "--encrypt-to": [entries.key_text(each.public_key()) for each in recipe.recipients],
        "--key-type": recipe.kind.value,
        "--days": recipe.days,
        "subject": {field: value for field, value in vars(recipe.subject).items() if value is not None},
        "--image": image,
        "mender.conf": configured,
    }


def _tell(outcome: Outcome, watch: _Watch, out: Path, seconds: float, *, as_json: bool) -> None:
    rate = outcome.made / seconds if seconds else 0.0
    if as_json:
        summary = {
            "out": str(out),
            "manifest": [str(out / CSV), str(out / JSON)],
            "made": outcome.made,
            "before": outcome.before,
            "revoked": outcome.revoked,
            "total": outcome.total,
            "problems": outcome.problems,
            "first_problems": [{"where": each.where, "what": each.what} for each in watch.problems],
            "complete": outcome.complete,
            "seconds": round(seconds, 3),
        }
        click.echo(json.dumps(summary))
        return
    made = f"{outcome.made} devices made in {seconds:.1f} s ({rate:,.0f} a second)"
    click.echo(escaped(f"{made}, {outcome.total} in {out / CSV}."))
    if outcome.revoked:
        click.echo(
            f"{outcome.revoked} certificates were revoked, and are not in the manifest. To give those devices another: "
            "move their files away, and add --again."
        )
    if outcome.problems:
        click.echo(f"{outcome.problems} rows could not be used. Mend them, and run the same command again.")
    if not outcome.complete:
        click.echo("Stopped before the end. Run the same command again: it goes on here.")

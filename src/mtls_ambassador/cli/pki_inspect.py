"""`mtls-ambassador pki show | verify`: a look at any certificate, key, request or revocation list."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.cli import pki_options as options
from mtls_ambassador.cli.pki_select import named
from mtls_ambassador.pki import inspection, pem
from mtls_ambassador.pki import show as shown
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.inspection import Inspection
from mtls_ambassador.pki.lint import Finding, Severity
from mtls_ambassador.pki.pem import Block, Content
from mtls_ambassador.pki.revocation import CRL
from mtls_ambassador.pki.revoked import Sources
from mtls_ambassador.printable import escaped


@click.command
@click.argument("names", metavar="FILE|SERIAL...", nargs=-1, required=True)
@options.directory
@options.as_json
@options.example(
    "mtls-ambassador pki show device-cert.pem",
    "openssl s_client -connect my-server.com:443 </dev/null | mtls-ambassador pki show -",
    "mtls-ambassador pki show device-cert.pem --json | jq '.[0].not_after'",
)
def show(directory: Path, names: tuple[str, ...], *, as_json: bool) -> None:
    """Show what is in a FILE, PEM or DER, whoever made it: certificates, keys, requests, revocation lists.

    "-" is standard input; a SERIAL number is looked up in the CA's index. Private keys are named, never printed.
    """
    everything = [{"file": name, **shown.describe(block)} for name in names for block in _blocks(directory, name)]
    if as_json:
        click.echo(json.dumps(everything, indent=1))
        return
    click.echo("\n\n".join(shown.text(facts) for facts in everything))


@click.command
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Trust bundle, such as the edge's tenant_ca_pem. Default: ca-chain.pem or ca-cert.pem of the CA's folder.",
)
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), help="Private key that shall belong to it.")
@click.option("--host", help="Name or address that devices connect to, for a server's certificate.")
@click.option(
    "--kind",
    type=click.Choice([Kind.DEVICE.value, Kind.SERVER.value, Kind.ROOT.value]),
    help="What a certificate is for, where it does not say so itself.",
)
@click.option(
    "--crl",
    "crls",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Revocation list to ask, beside the index and ca.crl of the CA's folder. May be given several times.",
)
@options.passphrase_file
@options.directory
@options.as_json
@options.example(
    "mtls-ambassador pki verify",
    "mtls-ambassador pki verify device-cert.pem --key device-private.key --ca /etc/mtls/certs/tenant-ca/tenant.ca.pem",
    "mtls-ambassador pki verify server-cert.pem --host my-server.com",
)
def verify(
    files: tuple[Path, ...],
    ca: Path | None,
    key: Path | None,
    host: str | None,
    kind: str | None,
    crls: tuple[Path, ...],
    directory: Path,
    passphrase_file: Path | None,
    *,
    as_json: bool,
) -> None:
    """Say what the edge, or a device, would refuse each FILE for, and what should be better.

    A FILE may be a certificate with its intermediates, a key, a request or a revocation list. Without one: the CA in
    the folder, and the server's certificate beside it. Whether a certificate is revoked, the CA's index and lists say.
    The exit status is 1 if there is an error, 0 if there is none.
    """
    anchors = tuple(pem.certificates(inspection.read(ca), str(ca))) if ca else inspection.trust_bundle(directory)
    own = [path for path in [directory / CRL] if path.exists()]
    look = Inspection(
        now=datetime.now(UTC),
        anchors=anchors,
        host=host,
        key=key,
        passphrase=options.passphrase(passphrase_file),
        kind=Kind(kind) if kind else None,
        revoked=Sources(directory, (*own, *crls)),
    )
    found: Mapping[Path, Sequence[Finding]]
    found = {file: inspection.file(file, look) for file in files} if files else inspection.authority(directory, look)
    found = {**found, **{crl: inspection.file(crl, look) for crl in crls}}
    if as_json:
        click.echo(json.dumps(described_findings(found), indent=1))
    else:
        tell_findings(found)
    if any(each.severity is Severity.ERROR for findings in found.values() for each in findings):
        sys.exit(1)


def described_findings(found: Mapping[Path, Sequence[Finding]]) -> list[dict[str, object]]:
    """What was found, for scripts."""
    return [{"file": str(file), **asdict(each)} for file in found for each in found[file]]


def tell_findings(found: Mapping[Path, Sequence[Finding]]) -> None:
    """Print what was found, file by file."""
    for file, findings in found.items():
        if not findings:
            click.echo(f"{escaped(file)}: good")
        for each in findings:
            click.echo(escaped(f"{file}: {each.severity} {each.code}: {each.what}"))
            click.echo(f"  {escaped(each.remedy)}")


def _blocks(directory: Path, name: str) -> list[Block]:
    if name == "-":
        return pem.blocks(sys.stdin.buffer.read(), "standard input")
    if Path(name).exists():
        return pem.blocks(inspection.read(Path(name)), name)
    return [Block(Content.CERTIFICATE, "", named(directory, name).certificate.public_bytes(Encoding.DER))]

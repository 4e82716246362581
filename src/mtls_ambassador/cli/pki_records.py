"""`mtls-ambassador pki list | revoke | crl | adopt`: what a CA has on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from mtls_ambassador.cli import pki_options as options
from mtls_ambassador.cli.pki_inspect import described_findings, tell_findings
from mtls_ambassador.cli.pki_select import read_certificate
from mtls_ambassador.pki import adoption, inspection, revocation
from mtls_ambassador.pki.entries import Entry, Kind, Reason, Revocation, Status
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.inspection import Inspection
from mtls_ambassador.printable import escaped

_LISTED = 20
"""Of what was left out, so much is told to a person."""


@click.command("list")
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), help="Only certificates of this kind.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those in this state.")
@click.option("--expires-within", type=click.IntRange(0), metavar="DAYS", help="Only valid ones that expire so soon.")
@options.directory
@options.as_json
@options.example(
    "mtls-ambassador pki list --kind server --expires-within 30",
    "mtls-ambassador pki list --json | jq -r '.[] | select(.status == \"revoked\") | .serial'",
)
def list_issued(
    directory: Path, kind: str | None, status: str | None, expires_within: int | None, *, as_json: bool
) -> None:
    """List what the CA issued: serial number, state, kind, expiry, subject, file."""
    now = datetime.now(UTC)
    soon = None if expires_within is None else now + timedelta(days=expires_within)
    with Index.open(directory, writable=False) as index:
        found = (
            entry
            for entry in index.entries(kind=Kind(kind) if kind else None)
            if (status is None or entry.status_at(now) == status)
            and (soon is None or (entry.status_at(now) is Status.VALID and entry.not_after <= soon))
        )
        unknown = iter(()) if kind or soon or status not in {None, Status.REVOKED} else _unknown(index)
        if as_json:
            _print_array([*(_entry(entry, now) for entry in found), *(_revocation(each) for each in unknown)])
            return
        for entry in found:
            state = entry.status_at(now)
            what = f"{entry.serial}  {state:<8} {entry.kind:<12} {entry.not_after:%Y-%m-%d}"
            click.echo(escaped(f"{what}  {entry.subject}  {entry.path}"))
        for each in unknown:
            click.echo(f"{each.serial}  {Status.REVOKED:<8} (not on record)")


@click.command
@click.argument("certificate", metavar="CERT|SERIAL")
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason if reason is not Reason.CERTIFICATE_HOLD]),
    default=Reason.UNSPECIFIED.value,
    show_default=True,
    help="Why, for the revocation list.",
)
@click.option("--unknown", is_flag=True, help="Revoke a serial number that the CA has no certificate of on record.")
@options.directory
@options.as_json
@options.example(
    "mtls-ambassador pki revoke my-device-001/device-cert.pem --reason keyCompromise",
    "mtls-ambassador pki revoke 9f3c:0a... && mtls-ambassador pki crl",
)
def revoke(directory: Path, certificate: str, reason: str, *, unknown: bool, as_json: bool) -> None:
    """Revoke a certificate, by its file or its serial number. It cannot be undone.

    Others hear of it by the next revocation list: run `pki crl` after it. This version's edge reads no list yet: reject
    the device in Mender too.
    """
    file = Path(certificate)
    if file.exists():
        entry: Entry | None = revocation.revoke(directory, read_certificate(file), reason=Reason(reason), file=file)
    else:
        entry = revocation.revoke_serial(directory, certificate, reason=Reason(reason), unknown=unknown)
    compromised = entry is not None and entry.revocation is not None and entry.revocation.reason.is_compromise
    left = revocation.others_of_key(directory, entry) if entry and compromised else ()
    if as_json:
        now = datetime.now(UTC)
        described = _entry(entry, now) if entry else {"serial": certificate, "status": "revoked"}
        click.echo(json.dumps({**described, "same_key": [each.serial for each in left]}))
    elif entry is None or entry.revocation is None:
        click.echo(f"revoked: {escaped(certificate)}, of which no certificate is on record")
    else:
        click.echo(
            f"revoked: {entry.serial}, {escaped(entry.subject)}, since {entry.revocation.at:%Y-%m-%d %H:%M} UTC, "
            f"{entry.revocation.reason}"
        )
    if not as_json:
        for each in left:
            click.echo(f"Its key is that of serial {each.serial}, too ({escaped(each.subject)}): revoke that as well.")
        click.echo("Now write the revocation list: mtls-ambassador pki crl")


@click.command
@options.days(revocation.CRL_DAYS, "How long the list is good; make the next one well before.")
@options.passphrase_file
@options.directory
@options.out
@options.as_json
@options.example(
    "mtls-ambassador pki crl --days 30",
    "openssl verify -crl_check -CAfile ca-cert.pem -CRLfile ca.crl device-cert.pem",
)
def crl(directory: Path, out: Path | None, days: int, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Write the revocation list, ca.crl: signed, numbered, in place of the one before."""
    made = revocation.write_crl(directory, out=out, days=days, passphrase=options.passphrase(passphrase_file))
    next_update = made.crl.next_update_utc
    assert next_update is not None  # noqa: S101  # ours always have one
    if as_json:
        facts = {"crl": str(made.path), "number": made.number, "entries": len(made.crl)}
        click.echo(json.dumps({**facts, "next_update": next_update.isoformat()}))
    else:
        click.echo(
            f"{escaped(made.path)}  number {made.number}, {len(made.crl)} revoked, good until {next_update:%Y-%m-%d}"
        )


@click.command
@click.option("--ca-cert", type=click.Path(path_type=Path, dir_okay=False), help="Its certificate, to be copied here.")
@click.option("--ca-key", type=click.Path(path_type=Path, dir_okay=False), help="Its private key, to be copied here.")
@click.option(
    "--issued",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Certificate that it issued, or a folder of them. May be given several times.",
)
@click.option(
    "--crl",
    "crls",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its revocation list, if it is not called ca.crl. May be given several times.",
)
@click.option("--database", type=click.Path(path_type=Path, dir_okay=False), help="The index.txt of `openssl ca`.")
@options.passphrase_file
@options.directory
@options.as_json
@options.example(
    "mtls-ambassador pki adopt                                      (where ca-cert.pem and ca-private.key are)",
    "mtls-ambassador pki adopt --dir pki --ca-cert demoCA/cacert.pem --ca-key demoCA/private/cakey.pem \\",
    "    --database demoCA/index.txt --issued demoCA/newcerts",
)
def adopt(
    directory: Path,
    ca_cert: Path | None,
    ca_key: Path | None,
    issued: tuple[Path, ...],
    crls: tuple[Path, ...],
    database: Path | None,
    passphrase_file: Path | None,
    *,
    as_json: bool,
) -> None:
    """Take over a CA that openssl made, as it is, with what it issued and revoked.

    Nothing of it is changed. In its folder, certificates that it issued (PEM or DER) and ca.crl are found by
    themselves. It says what it left out and what is missing in the CA, and goes on from there; it may be run again.
    """
    adopted = adoption.adopt(
        directory,
        certificate_path=ca_cert,
        key_path=ca_key,
        issued=issued,
        crls=crls,
        database=database,
        passphrase=options.passphrase(passphrase_file),
    )
    bundle = inspection.trust_bundle(directory)
    look = Inspection(datetime.now(UTC), bundle, passphrase=options.passphrase(passphrase_file))
    findings = inspection.authority(directory, look)
    if as_json:
        counts = {"certificates": adopted.certificates, "revocations": adopted.revocations}
        more = {
            "left_out": [asdict(each) for each in adopted.left_out],
            "findings": described_findings(findings),
        }
        click.echo(json.dumps({**options.facts(adopted.certificate), **counts, "crl_number": adopted.number, **more}))
        return
    click.echo(
        f"{escaped(adopted.certificate.subject.rfc4514_string())}: {adopted.certificates} certificates and "
        f"{adopted.revocations} revocations are new on record"
    )
    for each in adopted.left_out[:_LISTED]:
        click.echo(escaped(f"left out: {each.where}: {each.why}"))
    if len(adopted.left_out) > _LISTED:
        click.echo(f"left out: {len(adopted.left_out) - _LISTED} more, which --json lists")
    tell_findings(findings)


def _unknown(index: Index) -> Iterator[Revocation]:
    return (each for each in index.revocations() if index.find(each.serial) is None)


def _entry(entry: Entry, now: datetime) -> dict[str, object]:
    described: dict[str, object] = {
        "serial": entry.serial,
        "status": entry.status_at(now).value,
        "kind": entry.kind.value,
        "subject": entry.subject,
        "public_key": entry.public_key,
        "fingerprint": entry.fingerprint,
        "not_before": entry.not_before.isoformat(),
        "not_after": entry.not_after.isoformat(),
        "path": entry.path,
    }
    if entry.revocation is not None:
        described |= {"revoked_at": entry.revocation.at.isoformat(), "reason": entry.revocation.reason.value}
    return described


def _revocation(each: Revocation) -> dict[str, object]:
    state = {"serial": each.serial, "status": Status.REVOKED.value}
    return {**state, "revoked_at": each.at.isoformat(), "reason": each.reason.value}


def _print_array(items: list[dict[str, object]]) -> None:
    click.echo(json.dumps(items, indent=1))

"""`mtls-ambassador pki init | server | device | sign | renew`: whatever makes a certificate."""

from __future__ import annotations

from pathlib import Path

import click

from mtls_ambassador.cli import pki_options as options
from mtls_ambassador.cli.pki_select import named
from mtls_ambassador.pki import authority, profiles, renewal
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.issuing import Issued, key_name
from mtls_ambassador.pki.keys import KeyKind
from mtls_ambassador.pki.signer import CA_CERTIFICATE
from mtls_ambassador.printable import escaped


@click.command
@click.option("--cn", required=True, help='Common name of the CA, such as "My CA".')
@click.option(
    "--intermediate",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    help="Make an intermediate CA too, which issues; the root can then be kept offline. "
    'NAME is its common name; without it: that of the root and "Intermediate".',
)
@click.option("--encrypt", is_flag=True, help="Ask for a passphrase to encrypt the keys with.")
@options.key_type
@options.days(profiles.CA_DAYS)
@options.subject
@options.passphrase_file
@options.directory
@options.out
@options.as_json
@options.example(
    'mtls-ambassador pki init --cn "My CA" --organization "My Organization" --country NO',
    'mtls-ambassador pki init --dir pki --cn "My CA" --intermediate --encrypt',
)
def init(
    cn: str,
    intermediate: str | None,
    directory: Path,
    out: Path | None,
    key_type: str,
    days: int,
    passphrase_file: Path | None,
    *,
    encrypt: bool,
    as_json: bool,
    **subject: str | None,
) -> None:
    """Make a CA: ca-private.key and ca-cert.pem.

    With --intermediate these are the intermediate's, ca-chain.pem holds both certificates (the bundle for the edge and
    for devices), and the root lies in the folder root/: move that to an offline medium.
    """
    issued = authority.init(
        out or directory,
        cn,
        intermediate=f"{cn} Intermediate" if intermediate == "" else intermediate,
        kind=KeyKind(key_type),
        days=days,
        subject=options.subject_fields(subject),
        passphrase=options.new_passphrase(passphrase_file, ask=encrypt),
    )
    options.tell(issued, as_json=as_json)
    if as_json:
        return
    if intermediate is None:
        click.echo("Keep the private key offline: whoever has it can make devices.")
    else:
        root = escaped(issued.key_path.parent / authority.ROOT)
        click.echo(f"Move {root} to an offline medium: whoever has it can make CAs.")


@click.command
@click.option("--cn", required=True, help="Host name that devices connect to, such as my-server.com.")
@click.option("--san", multiple=True, help="One more name: DNS:NAME or IP:ADDRESS. May be given several times.")
@options.key_type
@options.days(profiles.SERVER_DAYS)
@options.subject
@options.passphrase_file
@options.directory
@options.out
@options.replace
@options.as_json
@options.example(
    "mtls-ambassador pki server --cn my-server.com --san DNS:edge.example.com --san IP:192.0.2.1",
)
def server(
    cn: str,
    san: tuple[str, ...],
    directory: Path,
    out: Path | None,
    key_type: str,
    days: int,
    passphrase_file: Path | None,
    *,
    replace: bool,
    as_json: bool,
    **subject: str | None,
) -> None:
    """Issue the edge's certificate: server-private.key and server-cert.pem."""
    issued = authority.issue_server(
        directory,
        cn,
        san=san,
        out=out,
        kind=KeyKind(key_type),
        days=days,
        subject=options.subject_fields(subject),
        replace=replace,
        passphrase=options.passphrase(passphrase_file),
    )
    options.tell(issued, as_json=as_json)


@click.command
@click.option("--cn", required=True, help="The device's own name.")
@click.option(
    "--san", multiple=True, help="One more name: DNS:NAME, IP:ADDRESS or URI:URI. May be given several times."
)
@options.key_type
@options.days(profiles.DEVICE_DAYS)
@options.subject
@options.passphrase_file
@options.directory
@options.out
@options.again
@options.replace
@options.as_json
@options.example(
    "mtls-ambassador pki device --cn my-device-001 --out my-device-001",
)
def device(
    cn: str,
    san: tuple[str, ...],
    directory: Path,
    out: Path | None,
    key_type: str,
    days: int,
    passphrase_file: Path | None,
    *,
    again: bool,
    replace: bool,
    as_json: bool,
    **subject: str | None,
) -> None:
    """Issue a device's certificate: device-private.key and device-cert.pem.

    A common name that has a valid certificate is refused: whoever holds the new one would take the device's place at
    the edge. `pki renew` is for the same device; --again for who means another certificate beside it.
    """
    issued = authority.issue_device(
        directory,
        cn,
        san=san,
        out=out,
        kind=KeyKind(key_type),
        days=days,
        subject=options.subject_fields(subject),
        again=again,
        replace=replace,
        passphrase=options.passphrase(passphrase_file),
    )
    options.tell(issued, as_json=as_json)


@click.command
@click.argument("request", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--cn", help="Common name, in place of the request's whole subject.")
@click.option("--server", "for_server", is_flag=True, help="For an edge proxy; otherwise for a device.")
@click.option(
    "--san", multiple=True, help="One more name: DNS:NAME, IP:ADDRESS or URI:URI. May be given several times."
)
@options.days(None, "Validity. Default: as for other certificates of the kind.")
@options.subject
@options.passphrase_file
@options.directory
@options.out
@options.again
@options.replace
@options.as_json
@options.example(
    "openssl req -new -key device-private.key -subj /CN=my-device-001 -out device-cert.req      (on the device)",
    "mtls-ambassador pki sign device-cert.req",
)
def sign(
    request: Path,
    cn: str | None,
    san: tuple[str, ...],
    directory: Path,
    out: Path | None,
    days: int | None,
    passphrase_file: Path | None,
    *,
    for_server: bool,
    again: bool,
    replace: bool,
    as_json: bool,
    **subject: str | None,
) -> None:
    """Sign a REQUEST (CSR) that was made where the private key is, which never leaves that place.

    device-cert.req becomes device-cert.pem. The request's signature is verified; of what it asks for, only the key and
    the subject count, and the subject not with --cn. Extensions that it asks for are not taken.

    A subject that has a valid certificate is refused, since the edge takes the holder of the new one for the same
    device; --again says that it is. A key that is another device's, a server's or a CA's, or that was compromised, is
    never signed.
    """
    if cn is None and any(value is not None for value in subject.values()):
        raise click.UsageError("fields of a subject need --cn; without it the request's own subject is taken")
    signed = authority.sign(
        directory,
        request,
        cn=cn,
        kind=Kind.SERVER if for_server else Kind.DEVICE,
        san=san,
        out=out,
        days=days,
        subject=options.subject_fields(subject),
        again=again,
        replace=replace,
        passphrase=options.passphrase(passphrase_file),
    )
    options.tell(signed, as_json=as_json, notes={"extensions_not_taken": list(signed.not_taken)})
    if signed.not_taken and not as_json:
        click.echo(escaped(f"Not taken over, as it asked for: {', '.join(signed.not_taken)}."))


@click.command
@click.argument("certificate", metavar="CERT|SERIAL")
@click.option("--new-key", is_flag=True, help="Make a new private key too. Default: the certificate keeps its key.")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Kind]),
    help="What it is for, where neither the index nor the certificate says so.",
)
@options.key_type
@options.days(None, "Validity. Default: as for other certificates of the kind.")
@options.passphrase_file
@options.directory
@options.out
@options.replace
@options.as_json
@options.example(
    "mtls-ambassador pki renew server-cert.pem --replace",
    "mtls-ambassador pki renew my-device-001/device-cert.pem --new-key --out my-device-001-new",
    "mtls-ambassador pki renew ca-cert.pem --replace",
    "mtls-ambassador pki renew pki/ca-cert.pem --dir pki/root --replace         (an intermediate)",
)
def renew(
    certificate: str,
    kind: str | None,
    directory: Path,
    out: Path | None,
    key_type: str,
    days: int | None,
    passphrase_file: Path | None,
    *,
    new_key: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Issue a certificate anew: same subject and names, new serial number, and the same key unless --new-key.

    It is written under the old one's file name, to --out or, by default, into the old one's folder; of a SERIAL, under
    the usual name into the CA's. The old one stays good until it expires or is revoked. A CA's own
    certificate is renewed with its key, so that everything it signed stays good.
    """
    chosen = named(directory, certificate)
    what = Kind(kind) if kind else chosen.kind
    target = (out or directory) / _NAMES[what]
    if chosen.file is not None:
        target = (out or chosen.file.parent) / chosen.file.name
    key_path = target.with_name(key_name(target))
    made = renewal.renew(
        directory,
        chosen.certificate,
        what,
        target,
        new_key=(key_path, KeyKind(key_type)) if new_key else None,
        days=days,
        replace=replace,
        passphrase=options.passphrase(passphrase_file),
    )
    if new_key:
        made = Issued(made.certificate, made.certificate_path, key_path)
    options.tell(made, as_json=as_json)


_NAMES = {
    Kind.ROOT: CA_CERTIFICATE,
    Kind.INTERMEDIATE: CA_CERTIFICATE,
    Kind.SERVER: authority.SERVER_CERTIFICATE,
    Kind.DEVICE: authority.DEVICE_CERTIFICATE,
}

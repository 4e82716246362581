"""`mtls-ambassador pki`: the CA, the server's certificate, a device's certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mtls_ambassador.pki import authority, profiles
from mtls_ambassador.pki.issuing import Issued
from mtls_ambassador.pki.keys import KeyKind
from mtls_ambassador.pki.profiles import SubjectFields

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group
def pki() -> None:
    """Make a CA and certificates, as plain PEM files under the names of Mender's documentation."""


def _common(days: int) -> Callable[[_Command], _Command]:
    """Options that all of them take."""

    def decorate(function: _Command) -> _Command:
        for option in (
            click.option("--state", help="State or province of the subject."),
            click.option("--locality", help="City of the subject."),
            click.option("--country", help="Country of the subject, two letters."),
            click.option("--email", help="E-mail address of the subject."),
            click.option("--unit", "organizational_unit", help="Organizational unit of the subject."),
            click.option("--organization", help="Organization of the subject."),
            click.option("--days", type=click.IntRange(1, 36500), default=days, show_default=True, help="Validity."),
            click.option(
                "--key-type",
                type=click.Choice([kind.value for kind in KeyKind]),
                default=KeyKind.P256.value,
                show_default=True,
            ),
            click.option(
                "--dir",
                "directory",
                type=click.Path(path_type=Path, file_okay=False),
                default=Path(),
                help="The CA's folder. Default: the current one.",
            ),
        ):
            function = option(function)
        return function

    return decorate


@pki.command("init")
@click.option("--cn", required=True, help='Common name of the CA, such as "My CA".')
@_common(profiles.CA_DAYS)
def init(cn: str, directory: Path, key_type: str, days: int, **subject: str | None) -> None:
    """Make a CA: ca-private.key and ca-cert.pem."""
    _tell(authority.init(directory, cn, kind=KeyKind(key_type), days=days, subject=_subject(subject)))
    click.echo("Keep the private key offline: whoever has it can make devices.")


@pki.command("server")
@click.option("--cn", required=True, help="Host name that devices connect to, such as my-server.com.")
@click.option("--san", multiple=True, help="One more name: DNS:NAME or IP:ADDRESS. May be given several times.")
@click.option("--replace", is_flag=True, help="Replace a key and certificate that are there.")
@_common(profiles.SERVER_DAYS)
def server(
    cn: str, san: tuple[str, ...], directory: Path, key_type: str, days: int, *, replace: bool, **subject: str | None
) -> None:
    """Issue the edge's certificate: server-private.key and server-cert.pem."""
    issued = authority.issue_server(
        directory, cn, san=san, kind=KeyKind(key_type), days=days, subject=_subject(subject), replace=replace
    )
    _tell(issued)


@pki.command("device")
@click.option("--cn", required=True, help="The device's own name.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to. Default: the CA's.",
)
@click.option("--replace", is_flag=True, help="Replace a key and certificate that are there.")
@_common(profiles.DEVICE_DAYS)
def device(
    cn: str, out: Path | None, directory: Path, key_type: str, days: int, *, replace: bool, **subject: str | None
) -> None:
    """Issue a device's certificate: device-private.key and device-cert.pem."""
    issued = authority.issue_device(
        directory, cn, out=out, kind=KeyKind(key_type), days=days, subject=_subject(subject), replace=replace
    )
    _tell(issued)


def _subject(fields: dict[str, str | None]) -> SubjectFields:
    return SubjectFields(**fields)


def _tell(issued: Issued) -> None:
    certificate = issued.certificate
    click.echo(f"{issued.key_path}  (private key, mode 0600)")
    click.echo(
        f"{issued.certificate_path}  {certificate.subject.rfc4514_string()}, "
        f"serial {certificate.serial_number:x}, until {certificate.not_valid_after_utc:%Y-%m-%d}"
    )

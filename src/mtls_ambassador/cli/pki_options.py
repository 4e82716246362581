"""Options that commands of `pki` share, and how they print what they made."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography import x509

from mtls_ambassador.pki.entries import serial_text
from mtls_ambassador.pki.issuing import Certified, Issued
from mtls_ambassador.pki.keys import KeyFileError, KeyKind, PassphraseMissingError
from mtls_ambassador.pki.profiles import SubjectFields
from mtls_ambassador.printable import escaped
from mtls_ambassador.x509 import fingerprint

PASSPHRASE_VARIABLE = "PKI_PASSPHRASE"  # noqa: S105  # a variable's name

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The CA's folder. Default: the current one.",
)
out = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to, made if it is missing. Default: the CA's.",
)
again = click.option(
    "--again", is_flag=True, help="Also if there is a valid certificate of this subject: it is the same device."
)
replace = click.option("--replace", is_flag=True, help="Replace files that are there.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"FILE whose first line is the passphrase of the CA's key. Otherwise ${PASSPHRASE_VARIABLE}, or it is asked.",
)
key_type = click.option(
    "--key-type",
    type=click.Choice([kind.value for kind in KeyKind]),
    default=KeyKind.P256.value,
    show_default=True,
)


def days(default: int | None, text: str = "Validity.") -> Callable[[Command], Command]:
    """`--days`, with a default of its own for each command."""
    return click.option("--days", type=click.IntRange(1, 36500), default=default, show_default=True, help=text)


def example(*lines: str) -> Callable[[Command], Command]:
    """Commands at the end of a command's help, as they would be typed."""

    def decorate(function: Command) -> Command:
        # click wraps paragraphs, but for those that begin with this character.
        function.__doc__ = "\n".join(
            [inspect.cleandoc(function.__doc__ or ""), "", "\b", "Example:", *_indented(lines)]
        )
        return function

    return decorate


def subject(function: Command) -> Command:
    """The options that make a subject, as the function's keyword arguments."""
    for name, key, text in (
        ("--state", "state", "State or province of the subject."),
        ("--locality", "locality", "City of the subject."),
        ("--country", "country", "Country of the subject, two letters."),
        ("--email", "email", "E-mail address of the subject."),
        ("--unit", "organizational_unit", "Organizational unit of the subject."),
        ("--organization", "organization", "Organization of the subject."),
    ):
        function = click.option(name, key, help=text)(function)
    return function


def subject_fields(options: Mapping[str, str | None]) -> SubjectFields:
    """What these options say."""
    return SubjectFields(**options)


def passphrase(file: Path | None) -> Callable[[], bytes]:
    """Asks for the passphrase of a key that turned out to be encrypted: file, environment, terminal."""

    def ask() -> bytes:
        given = given_passphrase(file)
        if given is not None:
            return given
        if not sys.stdin.isatty():
            raise PassphraseMissingError(
                "the CA's key is encrypted, and no passphrase was given",
                f"Name a file with --passphrase-file, set {PASSPHRASE_VARIABLE}, or run it in a terminal.",
            )
        return _encoded(click.prompt("Passphrase of the CA's key", hide_input=True, err=True))

    return ask


def new_passphrase(file: Path | None, *, ask: bool) -> bytes | None:
    """The passphrase for a new key, None for none.

    Raises:
        KeyFileError: the file cannot be read, or it is empty.
    """
    given = given_passphrase(file)
    if given is None and ask:
        given = _encoded(click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))
    return given


def given_passphrase(file: Path | None) -> bytes | None:
    """The passphrase out of a file, or of the environment.

    Raises:
        KeyFileError: the file cannot be read, or the passphrase is empty.
    """
    if file is not None:
        try:
            return _encoded(file.read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r"))
        except OSError as error:
            raise KeyFileError(
                f"cannot read the passphrase file {file}: {error.strerror}", "See that this user may read it."
            ) from error
        except UnicodeDecodeError as error:
            raise KeyFileError(f"the passphrase file {file} is not UTF-8 text", "Write it as text.") from error
    variable = os.environ.get(PASSPHRASE_VARIABLE)
    return None if variable is None else _encoded(variable)


def tell(certified: Certified, *, as_json: bool, notes: Mapping[str, object] | None = None) -> None:
    """Print what was made, and where."""
    certificate = certified.certificate
    if as_json:
        key = {"key": str(certified.key_path)} if isinstance(certified, Issued) else {}
        click.echo(
            json.dumps({"certificate": str(certified.certificate_path), **key, **facts(certificate), **(notes or {})})
        )
        return
    if isinstance(certified, Issued):
        click.echo(f"{escaped(certified.key_path)}  (private key, mode 0600)")
    click.echo(
        f"{escaped(certified.certificate_path)}  {escaped(certificate.subject.rfc4514_string())}, "
        f"serial {certificate.serial_number:x}, until {certificate.not_valid_after_utc:%Y-%m-%d}"
    )


def facts(certificate: x509.Certificate) -> dict[str, object]:
    """What a script wants to know of a certificate."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": serial_text(certificate.serial_number),
        "fingerprint": fingerprint(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _encoded(text: str) -> bytes:
    if not text:
        raise KeyFileError("the passphrase is empty", "Give one; or none at all, for a key that is not encrypted.")
    return text.encode()

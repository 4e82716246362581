"""`mtls-ambassador device image --manifest`: one image for each device of a factory's list."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mtls_ambassador.device import conf, manifest
from mtls_ambassador.device.errors import ImageError, ManifestError
from mtls_ambassador.device.image import check_places, credentials_in_place, prepare, stamp
from mtls_ambassador.device.material import read_credentials
from mtls_ambassador.device.scratch import scratch
from mtls_ambassador.errors import Error


def make(
    template: Path, listed: Path, out: Path, wanted: conf.Wanted, ca: bytes | None, *, replace: bool, as_json: bool
) -> None:
    """Make all images of a manifest; a row that cannot be made is told with its line, and the rest goes on.

    What all devices share is put into the template once, on a copy.

    Args:
        template: The image that all are made of; it is not changed.
        listed: The manifest.
        out: The folder for the images.
        wanted: What `mender.conf` shall say.
        ca: PEM of the CA of the edge's certificate.
        replace: Whether an image that is there is made once more; otherwise it is kept, so that a run that was
            interrupted goes on where it stopped.
        as_json: Whether to tell in JSON, one line an image.

    Raises:
        Error: nothing could be begun, or some rows could not be made.
    """
    if wanted.key.startswith(conf.PKCS11):
        raise ManifestError("a manifest lists keys, but the key is in a PKCS #11 token", "Leave --key-path out.")
    check_places(template, ())
    read = manifest.read(listed, template.suffix)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {out}: {error.strerror}", "Name another with --out.") from error
    failed = list(read.problems)
    seen: dict[bytes, int] = {}
    with scratch(out) as directory:
        prepared = directory / template.name
        merged = prepare(template, prepared, wanted, ca=ca)
        for row in read.rows:
            target = out / row.image
            try:
                _tell(target, _one(prepared, target, row, wanted, seen, replace=replace), merged, as_json=as_json)
            except Error as error:
                failed.append(f"{listed}, line {row.line}: {error.what}")
    for problem in failed:
        click.echo(problem, err=True)
    for remark in merged.remarks:
        click.echo(f"  {remark}", err=True)
    if failed:
        raise ImageError(
            f"{len(failed)} of {len(read.rows) + len(read.problems)} images could not be made",
            "Mend these lines and run it again: images that are there are kept.",
        )


def _one(
    template: Path, target: Path, row: manifest.Row, wanted: conf.Wanted, seen: dict[bytes, int], *, replace: bool
) -> str:
    """Make the row's image, or keep it; says which."""
    credentials = read_credentials(row.certificate, row.key)
    first = seen.setdefault(credentials.public_key, row.line)
    if first != row.line:
        raise ManifestError(f"has the same key as line {first}; every device needs its own")
    if target.exists() and not replace:
        return "kept"
    stamp(template, target, credentials_in_place(credentials, wanted))
    return "made"


def _tell(target: Path, what: str, merged: conf.Merged, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"image": str(target), "status": what, "server_url": merged.server_url}))
    else:
        click.echo(f"{target}  {'its device connects to ' + merged.server_url if what == 'made' else 'is there: kept'}")

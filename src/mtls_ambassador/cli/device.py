"""`mtls-ambassador device`: what a device needs, in its mender.conf, in its image, or on it while it runs."""

from __future__ import annotations

import ipaddress
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from mtls_ambassador.cli import device_images, upstream
from mtls_ambassador.config.values import BackendUrl
from mtls_ambassador.device import conf as configuration
from mtls_ambassador.device import push as pushing
from mtls_ambassador.device.errors import ConfigurationFileError, WantedError
from mtls_ambassador.device.image import prepare
from mtls_ambassador.device.material import Credentials, read_ca, read_credentials, read_tenant_token
from mtls_ambassador.files import ExistsError, write_atomically

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)
_SCRIPTS_CONF = '"$conf"'
_NEW_MODE = 0o600  # it may hold a tenant token

_CONF_EXAMPLES = """\b
Examples:
  mtls-ambassador device conf --server-url https://my-server.com:8080
  mtls-ambassador device conf /etc/mender/mender.conf --server-url https://my-server.com \\
      --ssl-engine pkcs11 --key-path 'pkcs11:token=device;object=key;pin-source=file:/etc/mender/pin'"""
_IMAGE_EXAMPLES = """\b
Examples:
  mtls-ambassador device image mender-disk-image.sdimg --server-url https://my-server.com:8080 \\
      --cert device-cert.pem --key device-private.key --ca ca-cert.pem
  mtls-ambassador device image template.sdimg --manifest devices.csv --out images \\
      --server-url https://my-server.com:8080 --ca ca-cert.pem"""
_PUSH_EXAMPLES = """\b
Examples:
  mtls-ambassador device push root@192.0.2.7 --server-url https://my-server.com:8080 \\
      --cert device-cert.pem --key device-private.key --ca ca-cert.pem
  mtls-ambassador device push root@172.17.0.2:8822 --host-key ignore --hosts-entry 172.17.0.1 --dry-run \\
      --server-url https://my-server.com --cert device-cert.pem --key device-private.key --ca ca-cert.pem"""


@click.group
def device() -> None:
    """Prepare devices for the edge: their mender.conf, their disk images, or a running one over ssh."""


def _wanted(*, server_url_required: bool) -> Callable[[_Command], _Command]:
    """Options that say what a `mender.conf` shall hold."""

    def decorate(function: _Command) -> _Command:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Say what was done as JSON, for scripts."),
            upstream.option,
            click.option(
                "--ssl-engine", metavar="NAME", help="OpenSSL engine that holds the private key, such as pkcs11."
            ),
            click.option(
                "--key-path",
                metavar="PATH",
                default=configuration.KEY,
                show_default=True,
                help="The private key on the device, or a pkcs11: URI (with pin-source rather than a PIN).",
            ),
            click.option(
                "--certificate-path",
                metavar="PATH",
                default=configuration.CERTIFICATE,
                show_default=True,
                help="The certificate on the device.",
            ),
            click.option(
                "--tenant-token-file",
                type=_FILE,
                metavar="FILE",
                help="File that holds TenantToken, for hosted Mender.",
            ),
            click.option(
                "--server-url",
                required=server_url_required,
                metavar="URL",
                help="The edge, such as https://my-server.com:8080"
                + ("." if server_url_required else ". Default: what mender.conf says already."),
            ),
        ):
            function = option(function)
        return function

    return decorate


@device.command("conf", epilog=_CONF_EXAMPLES)
@click.argument("file", type=_FILE, default="mender.conf")
@_wanted(server_url_required=False)
@click.option("--server-ca", metavar="PATH", help="ServerCertificate: on the device, the CA of the edge's certificate.")
@click.pass_context
def conf(context: click.Context, /, file: Path, *, as_json: bool, server_ca: str | None, **options: Any) -> None:
    """Write FILE, a mender.conf that leads a device to the edge, or merge that into what is there.

    Both HttpsClient and Security.AuthPrivateKey are set, so that Mender's clients of every version sign with the
    certificate's key. What else is in the file stays. Without FILE: mender.conf here.
    """
    name = str(file)
    try:
        before = file.read_bytes()
        mode = file.stat().st_mode & 0o777
    except FileNotFoundError:
        before, mode = None, _NEW_MODE
    except OSError as error:
        raise ConfigurationFileError(
            f"cannot read {name}: {error.strerror}", "See that this user may read it."
        ) from error
    text = configuration.text_of(before, name)
    merged = configuration.merge(text, _wanted_of(context, server_ca=server_ca, **options), name=name)
    changed = merged.text != text
    if changed:
        write_atomically(file.resolve() if file.is_symlink() else file, merged.text.encode(), mode)
    if as_json:
        click.echo(json.dumps({"file": name, "changed": changed, **_told(merged)}))
        return
    click.echo(f"{name}  {'written' if changed else 'as it was'}: its device connects to {merged.server_url}")
    _remark(merged)


@device.command("image", epilog=_IMAGE_EXAMPLES)
@click.argument("image_files", nargs=-1, required=True, type=_FILE, metavar="IMAGE...")
@_wanted(server_url_required=False)
@click.option("--cert", "certificate", type=_FILE, help="PEM FILE: the device's certificate.")
@click.option("--key", type=_FILE, help="PEM FILE: its private key.")
@click.option("--ca", type=_FILE, help="PEM FILE: the CA that signed the edge's certificate.")
@click.option(
    "--manifest",
    type=_FILE,
    help="FILE with image, certificate and key of each device, as `pki batch --image` writes it: CSV with a header, or "
    "JSON with an object on each line; other columns may be there. IMAGE is the template, and files are relative to "
    "FILE's folder.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write, instead of changing IMAGE; with --manifest the folder, made if it is missing.",
)
@click.option(
    "--replace", is_flag=True, help="Replace images that are at --out already; with --manifest they are kept otherwise."
)
@click.pass_context
def image(
    context: click.Context,
    /,
    image_files: tuple[Path, ...],
    *,
    as_json: bool,
    certificate: Path | None,
    key: Path | None,
    ca: Path | None,
    manifest: Path | None,
    out: Path | None,
    replace: bool,
    **options: Any,
) -> None:
    """Put certificate, key, CA and mender.conf into IMAGE: .sdimg, .uefiimg, .img, .ext4, or an Artifact (.mender).

    Needs mender-artifact. Work is done on a copy, which takes the image's place when all is in; a failure leaves the
    image as it was. An image that holds a key cannot be read by other users. In an Artifact, which has no data
    partition, go CA and mender.conf only; its signature is lost, so sign it again.
    """
    wanted = _wanted_of(context, server_ca=configuration.CA if ca else None, **options)
    authority = read_ca(ca) if ca else None
    if manifest is not None:
        if certificate or key or len(image_files) != 1 or out is None:
            raise click.UsageError("--manifest takes one IMAGE and --out, and neither --cert nor --key")
        device_images.make(image_files[0], manifest, out, wanted, authority, replace=replace, as_json=as_json)
        return
    if len(image_files) > 1 and (certificate or key or out):
        raise click.UsageError(
            "several images can share a CA and a mender.conf, but not --cert, --key or --out: --manifest"
        )
    if out is not None and out.exists() and not replace:
        raise ExistsError(f"{out} is there already", "Move it away, write elsewhere, or add --replace.")
    own = _credentials(certificate, key, wanted) if certificate or key else None
    for file in image_files:
        target = out or file
        merged = prepare(file, target, wanted, ca=authority, credentials=own)
        if as_json:
            click.echo(json.dumps({"image": str(target), **_told(merged)}))
            continue
        click.echo(f"{target}  its device connects to {merged.server_url}")
        _remark(merged)


@device.command("push", epilog=_PUSH_EXAMPLES)
@click.argument("target", metavar="[USER@]HOST[:PORT]")
@_wanted(server_url_required=True)
@click.option("--cert", "certificate", required=True, type=_FILE, help="PEM FILE: the device's certificate.")
@click.option("--key", type=_FILE, help="PEM FILE: its private key.")
@click.option("--ca", type=_FILE, help="PEM FILE: the CA that signed the edge's certificate.")
@click.option("--hosts-entry", metavar="ADDRESS", help="The edge's address for the device's /etc/hosts, without DNS.")
@click.option("--restart/--no-restart", default=True, help="Restart the Mender client at the end. Default: yes.")
@click.option("--dry-run", is_flag=True, help="Print the commands that would be run, as a script, and do nothing.")
@click.option("--identity", type=_FILE, metavar="FILE", help="Private key to log in with. Default: as ssh has it.")
@click.option(
    "--host-key",
    type=click.Choice([policy.value for policy in pushing.HostKeys]),
    default=pushing.HostKeys.STRICT.value,
    show_default=True,
    help="What becomes of a device with an unknown host key; `ignore` is for virtual devices.",
)
@click.option("--known-hosts", type=_FILE, metavar="FILE", help="File with the host keys. Default: as ssh has it.")
@click.option("--ssh-option", "ssh_options", multiple=True, metavar="OPTION", help="For ssh's -o. Repeatable.")
@click.option("--sudo", is_flag=True, help="Log in as a user that may run `sudo -n`.")
@click.pass_context
def push(
    context: click.Context,
    /,
    target: str,
    *,
    as_json: bool,
    certificate: Path,
    key: Path | None,
    ca: Path | None,
    hosts_entry: str | None,
    restart: bool,
    dry_run: bool,
    identity: Path | None,
    host_key: str,
    known_hosts: Path | None,
    ssh_options: tuple[str, ...],
    sudo: bool,
    **options: Any,
) -> None:
    """Put certificate, key, CA and mender.conf onto a device that runs, over ssh, and restart its Mender client.

    The device needs an ssh server and a shell. Doing it again changes nothing.
    """
    there = pushing.Target.parse(target)
    access = pushing.Access(pushing.HostKeys(host_key), identity, known_hosts, ssh_options, sudo)
    wanted = _wanted_of(context, server_ca=configuration.CA if ca else None, **options)
    configuration.merge(None, wanted)  # what cannot work is said before anybody is called
    if hosts_entry is not None:
        _require_address(hosts_entry)
    own = _credentials(certificate, key, wanted)
    files = pushing.Files(
        (shlex.quote(str(certificate)), own.certificate),
        (shlex.quote(str(key)), own.key) if own.key is not None else None,
        (shlex.quote(str(ca)), read_ca(ca)) if ca is not None else None,
    )

    def plan(text: str) -> tuple[pushing.Step, ...]:
        return pushing.steps(
            files, wanted, configuration=(_SCRIPTS_CONF, text.encode()), hosts_entry=hosts_entry, restart=restart
        )

    if dry_run:
        planned = plan("")
        script = _script(there, access, planned, _conf_command(options, ca))
        if as_json:
            steps = [step.does for step in planned]
            click.echo(json.dumps({"device": str(there), "dry_run": True, "steps": steps, "script": script}))
        else:
            click.echo(script)
        return
    found = pushing.run(there, access, pushing.READ_CONFIGURATION)
    name = f"{configuration.CONFIGURATION} on {there}"
    merged = configuration.merge(configuration.text_of(found, name), wanted, name=name)
    done: list[str] = []
    for step in plan(merged.text):
        pushing.run(there, access, step)
        done.append(step.does)
        if not as_json:
            click.echo(f"{there}  {step.does}")
    if as_json:
        click.echo(json.dumps({"device": str(there), "steps": done, **_told(merged)}))
        return
    _remark(merged)


def _script(target: pushing.Target, access: pushing.Access, steps: tuple[pushing.Step, ...], conf_command: str) -> str:
    """What `push` does, as a script for a shell."""
    lines = [
        f"# {pushing.READ_CONFIGURATION.does}, and merge it",
        f"set -eu; {_SCRIPTS_CONF[2:-1]}=$(mktemp)",
        f"{pushing.shown(target, access, pushing.READ_CONFIGURATION)} > {_SCRIPTS_CONF}",
        conf_command,
    ]
    for step in steps:
        lines += [f"# {step.does}", pushing.shown(target, access, step)]
    return "\n".join(lines)


def _conf_command(options: Mapping[str, Any], ca: Path | None) -> str:
    words = ["--server-url", options["server_url"]]
    for each in options["upstreams"]:
        words += ["--upstream", str(each)]
    for name in ("tenant_token_file", "certificate_path", "key_path", "ssl_engine"):
        if options[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if ca is not None:
        words += ["--server-ca", configuration.CA]
    return f"mtls-ambassador device conf {_SCRIPTS_CONF} {shlex.join(words)}"


def _wanted_of(
    context: click.Context,
    *,
    server_url: str | None,
    tenant_token_file: Path | None,
    certificate_path: str,
    key_path: str,
    ssl_engine: str | None,
    server_ca: str | None,
    upstreams: tuple[BackendUrl, ...],
) -> configuration.Wanted:
    return configuration.Wanted(
        server_url=server_url,
        tenant_token=read_tenant_token(tenant_token_file) if tenant_token_file else None,
        certificate=certificate_path,
        key=key_path,
        ssl_engine=ssl_engine,
        server_ca=server_ca,
        upstreams=(*upstreams, *upstream.of_the_edge(context)),
    )


def _credentials(certificate: Path | None, key: Path | None, wanted: configuration.Wanted) -> Credentials:
    if certificate is None:
        raise click.UsageError("--key without --cert")
    if wanted.key.startswith(configuration.PKCS11):
        if key is not None:
            raise click.UsageError("--key-path says that the key is in the device's PKCS #11 token: leave --key out")
        return read_credentials(certificate, None)
    if key is None:
        raise click.UsageError("--cert without --key")
    return read_credentials(certificate, key)


def _require_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise WantedError(f"{text!r} is no IP address", "Give the edge's: --hosts-entry 192.0.2.1") from error


def _told(merged: configuration.Merged) -> dict[str, object]:
    return {"server_url": merged.server_url, "remarks": merged.remarks}


def _remark(merged: configuration.Merged) -> None:
    for remark in merged.remarks:
        click.echo(f"  {remark}", err=True)

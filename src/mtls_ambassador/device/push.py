"""A device that is there already: its files over ssh, with the system's OpenSSH client.

Every step is one `ssh` with a script of POSIX sh and, for a file, its bytes on standard input: a device needs neither
`scp` nor an SFTP server, only a shell and what busybox has. Doing it all once more changes nothing.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mtls_ambassador.device import conf
from mtls_ambassador.device.errors import PushError, WantedError

_CONNECT_TIMEOUT = 15  # seconds
_SSH_FAILED = 255  # ssh(1), EXIT STATUS
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?")
_MARK = "# mtls-ambassador"
_UNITS = ("mender-authd", "mender-updated", "mender-client")


class HostKeys(StrEnum):
    """What becomes of a device whose host key is not known."""

    STRICT = "strict"
    """It is refused."""
    ACCEPT_NEW = "accept-new"
    """It is trusted from now on; a changed key is refused."""
    IGNORE = "ignore"
    """Any key will do and none is remembered: for a virtual device that is made anew every time."""


_HOST_KEY_OPTIONS = {
    HostKeys.STRICT: ("StrictHostKeyChecking=yes",),
    HostKeys.ACCEPT_NEW: ("StrictHostKeyChecking=accept-new",),
    HostKeys.IGNORE: ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to log in as, and where."""

    host: str
    """Host name or address, without brackets."""
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `[USER@]HOST[:PORT]`; an IPv6 address with a port stands in brackets.

        Raises:
            WantedError: it is something else, such as an option for ssh.
        """
        user, at, rest = text.rpartition("@")
        bracketed = re.fullmatch(r"\[(.*)\](?::(\d+))?", rest)
        host, port = (bracketed[1], bracketed[2]) if bracketed else (rest, None)
        if not bracketed and rest.count(":") == 1:
            host, _, port = rest.partition(":")
        if (
            not _HOST.fullmatch(host)
            or (at and not _USER.fullmatch(user))
            or (port is not None and not (port.isdecimal() and 0 < int(port) <= 65535))
        ):
            raise WantedError(f"{text!r} is no device to log in to", "Write it as root@192.0.2.7 or root@device:8822.")
        return cls(host, user or None, int(port) if port is not None else None)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in.

    Attributes:
        host_keys: What becomes of an unknown host key.
        identity: Private key file to log in with; None: as ssh is configured.
        known_hosts: File with the host keys; None: as ssh is configured.
        options: More of ssh's `-o`, such as `ProxyJump=gateway`; they win.
        sudo: Whether the scripts are run by `sudo -n`, for a user that is not root.
    """

    host_keys: HostKeys = HostKeys.STRICT
    identity: Path | None = None
    known_hosts: Path | None = None
    options: tuple[str, ...] = ()
    sudo: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done on the device.

    Attributes:
        does: It, in words.
        script: POSIX sh.
        source: The file on this machine whose bytes the script reads, as a word of shell; None if it reads none.
        data: These bytes.
    """

    does: str
    script: str
    source: str | None = None
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Files:
    """What a device gets: each file's name on this machine, as a word of shell, and its bytes."""

    certificate: tuple[str, bytes]
    key: tuple[str, bytes] | None = field(repr=False)
    """None where the key is in the device's PKCS #11 token."""
    ca: tuple[str, bytes] | None


READ_CONFIGURATION = Step(
    f"read {conf.CONFIGURATION}",
    f"if [ -e {conf.CONFIGURATION} ]; then cat {conf.CONFIGURATION}; fi",
)


def steps(
    files: Files, wanted: conf.Wanted, *, configuration: tuple[str, bytes], hosts_entry: str | None, restart: bool
) -> tuple[Step, ...]:
    """What is done after `READ_CONFIGURATION`; the configuration comes late, when all that it names is in place.

    Args:
        files: Certificate, key and CA.
        wanted: Where they go, and the server URL.
        configuration: The merged `mender.conf`.
        hosts_entry: Address of the edge, for the device's `/etc/hosts`; None: no entry.
        restart: Whether the client is restarted at the end.
    """
    found: list[Step] = []
    if files.key is not None:
        found.append(_put("private key", files.key, wanted.key, 0o600))
    found.append(_put("certificate", files.certificate, wanted.certificate, 0o644))
    if files.ca is not None:
        found += [_put("CA", files.ca, conf.CA, 0o644), Step("let the device trust the CA", _TRUST)]
    if hosts_entry is not None and wanted.server_url is not None:
        name = conf.host_of(wanted.server_url)
        found.append(Step(f"put {name} into /etc/hosts", _hosts(hosts_entry, name)))
    found.append(_put("configuration", configuration, conf.CONFIGURATION, 0o600))
    if restart:
        found.append(Step("restart the Mender client", _RESTART))
    return tuple(found)


def command(target: Target, access: Access, step: Step) -> list[str]:
    """The `ssh` command of a step that reads no file; one that does gets the file's size as one more argument."""
    options = [
        "BatchMode=yes",
        f"ConnectTimeout={_CONNECT_TIMEOUT}",
        f"ServerAliveInterval={_CONNECT_TIMEOUT}",
        *_HOST_KEY_OPTIONS[access.host_keys],
    ]
    if access.known_hosts is not None and access.host_keys is not HostKeys.IGNORE:
        options.append(f'UserKnownHostsFile="{access.known_hosts.absolute()}"')
    # ssh takes the first of what is said twice.
    words = [word for option in (*access.options, *options) for word in ("-o", option)]
    if access.identity is not None:
        words += ["-o", "IdentitiesOnly=yes", "-i", str(access.identity)]
    if target.port is not None:
        words += ["-p", str(target.port)]
    # The user's shell there may be any; it only has to start this one. ssh joins arguments by spaces.
    remote = shlex.join([*(("sudo", "-n") if access.sudo else ()), "sh", "-euc", step.script, "push"])
    return ["ssh", "-T", *words, "--", str(target), remote]


def shown(target: Target, access: Access, step: Step) -> str:
    """The step as one line of shell, that does the same when it is run."""
    line = shlex.join(command(target, access, step))
    if step.source is None:
        return line
    return f"{line} $(wc -c < {step.source}) < {step.source}"


def run(target: Target, access: Access, step: Step) -> bytes:
    """Do it; returns what the script printed.

    Raises:
        PushError: the device cannot be reached or does not let us in, or the script failed.
    """
    words = command(target, access, step)
    if step.source is not None:
        words.append(str(len(step.data)))
    try:
        done = subprocess.run(words, input=step.data, capture_output=True, check=False)
    except OSError as error:
        raise PushError(f"cannot run ssh: {error.strerror}", "Install it: apt-get install openssh-client.") from error
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.decode(errors="replace").split()) or f"exit status {done.returncode}"
    if done.returncode == _SSH_FAILED:
        raise PushError(f"cannot log in to {target}: {said}", _login_remedy(said))
    raise PushError(
        f"{target}: could not {step.does}: {said}", "Steps before it are done; doing all again does no harm."
    )


def _login_remedy(said: str) -> str:
    if "host key" in said.lower():
        return "Compare its key and add it with ssh-keyscan, or trust a new one: --host-key accept-new."
    return "No password is asked for: put your public key into its authorized_keys, and name yours with --identity."


def _put(what: str, source: tuple[str, bytes], path: str, mode: int) -> Step:
    """Send a file. It appears whole, with its mode, or not at all; a link at its place is followed."""
    name, data = source
    script = "; ".join(
        [
            f"umask 022; mkdir -p {shlex.quote(str(Path(path).parent))}",
            f"path=$(readlink -f {shlex.quote(path)}); umask 077",
            'cat > "$path.new"',
            # A broken connection is the end of the input, too.
            '[ "$(wc -c < "$path.new")" -eq "$1" ] || { rm -f "$path.new"; echo "the file broke off" >&2; exit 1; }',
            f'chmod {mode:04o} "$path.new"; mv -f "$path.new" "$path"',
        ]
    )
    return Step(f"put the {what} to {path}, mode {mode:04o}", script, name, data)


def _hosts(address: str, name: str) -> str:
    """First in the file, since the first line of a name counts; written in place, since a container mounts the file."""
    line = shlex.quote(f"{address}\t{name} {_MARK}")
    return (
        f"hosts=$({{ printf '%s\\n' {line}; grep -v {shlex.quote(f'{_MARK}$')} /etc/hosts || :; }})"
        "; printf '%s\\n' \"$hosts\" > /etc/hosts"
    )


_TRUST = "if command -v update-ca-certificates >/dev/null; then update-ca-certificates; fi"
_RESTART = (
    "command -v systemctl >/dev/null || { echo 'it has no systemctl: restart the client by hand' >&2; exit 1; }; "
    f"found=; for unit in {' '.join(_UNITS)}; do "
    'if systemctl cat "$unit.service" >/dev/null 2>&1; then systemctl restart "$unit.service"; found=$unit; fi; '
    "done; [ -n \"$found\" ] || { echo 'it has neither mender-client nor mender-authd' >&2; exit 1; }"
)

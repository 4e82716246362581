"""A process that sees and may do only what a package says: other files, read-only, another user; in namespaces.

Nothing is left behind on this machine: mount points are made in copies and in memory, which end with the process.
"""

from __future__ import annotations

import resource
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]

_STAGE = Path("/mnt")
# The host's own are not seen: mount points are made there.
_ANEW = ("/home", "/opt", "/root", "/run", "/var/lib")
# What Python needs is shown again wherever it lies.
_PYTHON = tuple(dict.fromkeys((sys.base_prefix, str(ROOT), sys.prefix)))
_KERNEL = ("/dev", "/proc", "/sys")


@dataclass(frozen=True)
class Bind:
    """A file or directory of this machine at another place."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Sandbox:
    """What is different for the process.

    Attributes:
        user: User and group id; no capability is left, nor any that a program could gain.
        binds: Files and directories, in this order.
        tmpfs: Mount options of file systems in memory, by their place.
        hosts: Names in /etc/hosts and their addresses.
        read_only: Whether all else is, but what the kernel shows.
        directory: The working directory.
        open_files: Limit of file descriptors; None leaves this machine's.
        umask: Octal.
        more: Shell commands that root runs last.
        wrapper: A command that runs the program, as its user.
    """

    user: int
    binds: Sequence[Bind] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    directory: str = "/"
    open_files: int | None = None
    umask: str = "0022"
    more: Sequence[Sequence[str]] = ()
    wrapper: Sequence[str] = ()

    def command(self, *program: str) -> list[str]:
        """The command that runs a program there; its process is the program's in the end."""
        return ["unshare", "--mount", "--uts", "/bin/sh", "-euc", "\n".join(self._script(program))]

    def _script(self, program: Sequence[str]) -> Iterator[str]:
        shown = [*self.binds, *(Bind(Path(path), path) for path in _PYTHON)]
        yield "mount --make-rprivate /"
        yield f"mount -t tmpfs -o mode=0755 tmpfs {_STAGE}"
        # First, since what follows may hide where they are.
        for number, bind in enumerate(shown):
            yield _mount_point(bind, f"{_STAGE}/{number}")
            yield shlex.join(["mount", "--bind", str(bind.source), f"{_STAGE}/{number}"])
        yield f"cp -a /etc {_STAGE}/etc"
        yield f"mount --bind {_STAGE}/etc /etc"
        if self.hosts:
            lines = "".join(f"{address}\t{name}\n" for name, address in self.hosts.items())
            yield f"rm -f /etc/hosts; printf %s {shlex.quote(lines)} > /etc/hosts; chmod 0644 /etc/hosts"
        for directory in _ANEW:
            yield f"mount -t tmpfs -o mode=0755 tmpfs {directory}"
        for target, options in self.tmpfs.items():
            yield f"mkdir -p {target}"
            yield f"mount -t tmpfs -o {options} tmpfs {target}"
        for number, bind in enumerate(shown):
            mount = shlex.join(["mount", "--bind", f"{_STAGE}/{number}", bind.target])
            show = f"{_mount_point(bind, bind.target)}; {mount}"
            yield show if bind in self.binds else f"[ -e {shlex.quote(bind.target)} ] || {{ {show}; }}"
        yield f"umount -l {_STAGE}"
        yield from (shlex.join(command) for command in self.more)
        writable = [*self.tmpfs, *(bind.target for bind in self.binds if not bind.read_only)]
        yield from (f"mount -o remount,bind,ro {bind.target}" for bind in self.binds if bind.read_only)
        if self.read_only:
            others = "|".join([*writable, *(pattern for place in _KERNEL for pattern in (place, f"{place}/*"))])
            yield "awk '{print $5}' /proc/self/mountinfo | sort -u | while read -r point; do"
            yield f'  case $point in {others}) ;; *) mount -o remount,bind,ro "$point" ;; esac'
            yield "done"
        yield shlex.join(["cd", self.directory])
        yield f"umask {self.umask}"
        if self.open_files is not None:
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # not all roots may raise it
            yield f"ulimit -n {min(self.open_files, most)}"
        user = ["--reuid", str(self.user), "--regid", str(self.user), "--clear-groups"]
        less = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        yield shlex.join(["exec", "setpriv", *user, *less, *self.wrapper, *program])


def _mount_point(bind: Bind, target: str) -> str:
    """The command that makes a mount point of the same kind."""
    make = "mkdir -p" if bind.source.is_dir() else "touch"
    return f"mkdir -p {shlex.quote(str(Path(target).parent))}; {make} {shlex.quote(target)}"

"""A device's disk image or Artifact, with its files put in by the real `mender-artifact`.

All work is done on a copy beside the target, which takes the target's place at the end: an image is done or untouched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import posixpath
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtls_ambassador.device import conf
from mtls_ambassador.device.errors import ImageError
from mtls_ambassador.device.material import Credentials
from mtls_ambassador.device.scratch import scratch

ARTIFACT = ".mender"
SUFFIXES = (".sdimg", ".uefiimg", ".img", ".ext4", ARTIFACT)
_ABSENT = "does not exist in the image"
_UNSIGNED = "Signature: no signature"
_SIGN_AGAIN = "its signature is gone, since it was changed: sign it again with mender-artifact sign"
_DATA = "/data/"
_NEW_CONFIGURATION_MODE = 0o600  # it may hold a tenant token
_SBIN = "/usr/sbin:/sbin"  # where fsck and parted are; an ordinary user's path lacks it
_INSTALL = "apt-get install mender-artifact e2fsprogs parted dosfstools"


@dataclass(frozen=True, slots=True)
class Placed:
    """A file in an image: where, what, and its permission bits."""

    path: str
    data: bytes = field(repr=False)
    mode: int


def credentials_in_place(credentials: Credentials, wanted: conf.Wanted) -> tuple[Placed, ...]:
    """The key, which root alone may read, and the certificate, where the configuration says that they are."""
    certificate = Placed(wanted.certificate, credentials.certificate, 0o644)
    return (certificate,) if credentials.key is None else (Placed(wanted.key, credentials.key, 0o600), certificate)


def check_places(image: Path, files: Sequence[Placed]) -> None:
    """See that such an image can hold such files, before anything is done.

    Raises:
        ImageError: `mender-artifact` does not know such images, or an Artifact was to get a file of the data partition.
    """
    if image.suffix not in SUFFIXES:
        raise ImageError(f"{image} has none of the endings {', '.join(SUFFIXES)}", "Rename it, if it is such an image.")
    for file in files:
        if image.suffix == ARTIFACT and file.path.startswith(_DATA):
            raise ImageError(
                f"{image} is an Artifact: it has a root file system only, and {file.path} is on the data partition",
                "Leave --cert and --key out (they are a device's own, an Artifact is for many), or place them "
                "elsewhere with --certificate-path and --key-path.",
            )


def install_command(source: str, image: str, file: Placed) -> list[str]:
    """What puts a file into an image.

    The mode has its leading zero: `mender-artifact` reads `-m 600` as a decimal number, and makes mode 0130 of it.
    """
    return ["mender-artifact", "install", "-m", f"0{file.mode:o}", source, f"{image}:{file.path}"]


class Workbench:
    """A copy of an image, in a directory of its own beside the target, that is changed and then put in place."""

    def __init__(self, directory: Path, suffix: str) -> None:
        self.directory = directory
        # mender-artifact goes by the ending, and does not know this one.
        self.name = f"image{'.img' if suffix == '.ext4' else suffix}"

    @property
    def path(self) -> Path:
        """Where the copy is."""
        return self.directory / self.name

    def put(self, file: Placed) -> None:
        """Put a file in, with the directories it needs.

        Raises:
            ImageError: the image is damaged or full, or no such place is in it.
        """
        with _in_memory(file.data) as source:
            command = install_command(source, self.name, file)
            done = self._run(command)
            if done.returncode and _ABSENT in done.stdout:
                self._succeed(
                    ["mender-artifact", "install", "-d", f"{self.name}:{posixpath.dirname(file.path)}"], file.path
                )
                done = self._run(command)
        _check(done, f"cannot put {file.path} in")

    def take(self, path: str) -> tuple[bytes, int] | None:
        """A file's content and permission bits; None where the image has no such file.

        Raises:
            ImageError: the image cannot be read.
        """
        target = self.directory / "taken"
        done = self._run(["mender-artifact", "cp", f"{self.name}:{path}", target.name])
        if done.returncode and _ABSENT in done.stdout:
            return None
        _check(done, f"cannot take {path} out")
        mode = target.stat().st_mode & 0o777
        target.chmod(0o600)
        data = target.read_bytes()
        target.unlink()
        return data, mode

    def configure(self, wanted: conf.Wanted) -> conf.Merged:
        """Merge the image's `mender.conf`.

        Raises:
            ImageError: the image cannot be read or written.
            ConfigurationFileError: what is there is not JSON.
            WantedError: what is wanted cannot work.
        """
        found = self.take(conf.CONFIGURATION)
        name = f"{conf.CONFIGURATION} in the image"
        data, mode = found or (None, _NEW_CONFIGURATION_MODE)
        merged = conf.merge(conf.text_of(data, name), wanted, name=name)
        self.put(Placed(conf.CONFIGURATION, merged.text.encode(), mode))
        return merged

    def is_signed_artifact(self) -> bool:
        """Whether it is an Artifact with a signature, which does not outlive a change.

        Raises:
            ImageError: mender-artifact cannot be run.
        """
        return (
            self.path.suffix == ARTIFACT and _UNSIGNED not in self._run(["mender-artifact", "read", self.name]).stdout
        )

    def _succeed(self, command: Sequence[str], path: str) -> None:
        _check(self._run(command), f"cannot make the directory of {path}")

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                cwd=self.directory,
                env={
                    **os.environ,
                    "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}",
                    "LC_ALL": "C.UTF-8",
                    # Copies of files and of whole partitions go where they are removed after a kill. Not by the
                    # folder's full name, in which mender-artifact and debugfs take neither a blank nor a colon.
                    "TMPDIR": ".",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise ImageError(f"cannot run mender-artifact: {error.strerror}", f"Install it: {_INSTALL}.") from error


@contextlib.contextmanager
def copied(template: Path, target: Path, *, private: bool) -> Iterator[Workbench]:
    """A copy of a template to work on; at the block's end it becomes the target, if no error ended the block.

    Args:
        template: The image to copy.
        target: What the copy becomes, perhaps the template itself.
        private: Whether it is going to hold a private key: then others may not read it.

    Raises:
        ImageError: the template cannot be read, or the target's directory not be written.
    """
    try:
        status = template.stat()
        with scratch(target.parent) as directory:
            bench = Workbench(directory, template.suffix)
            _copy(template, bench.path)
            yield bench
            bench.path.chmod(status.st_mode & (0o770 if private else 0o777))
            with contextlib.suppress(PermissionError):  # another user's image is not given back, but still readable
                os.chown(bench.path, status.st_uid, status.st_gid)
            with bench.path.open("rb") as file:
                os.fsync(file.fileno())
            bench.path.replace(target)
    except OSError as error:
        raise ImageError(
            f"cannot make {target} of {template}: {error.strerror}",
            "See that the image exists, and that the directory may be written and has room for a copy.",
        ) from error


def prepare(
    image: Path,
    target: Path,
    wanted: conf.Wanted,
    *,
    ca: bytes | None = None,
    credentials: Credentials | None = None,
) -> conf.Merged:
    """Make an image that leads its device to the edge.

    Args:
        image: The image, which is not changed unless it is the target.
        target: The image to write.
        wanted: What its `mender.conf` shall say, and where certificate and key go.
        ca: PEM of the CA that signed the edge's certificate.
        credentials: The device's own.

    Raises:
        ImageError, ConfigurationFileError, WantedError: it cannot be done; the target is as it was.
    """
    files = [Placed(conf.CA, ca, 0o644)] if ca is not None else []
    own = credentials_in_place(credentials, wanted) if credentials is not None else ()
    check_places(image, [*files, *own])
    with copied(image, target, private=credentials is not None) as bench:
        signed = bench.is_signed_artifact()
        merged = bench.configure(wanted)
        for file in [*files, *own]:
            bench.put(file)
    return dataclasses.replace(merged, remarks=(*merged.remarks, _SIGN_AGAIN)) if signed else merged


def stamp(template: Path, target: Path, files: Sequence[Placed]) -> None:
    """Make one device's image out of a prepared template: only the files that are its own are put in.

    Raises:
        ImageError: it cannot be done; the target is as it was.
    """
    check_places(template, files)
    with copied(template, target, private=True) as bench:
        for file in files:
            bench.put(file)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A file without a place on the disk, by a name that programs of this user can open while this one runs."""
    with os.fdopen(os.memfd_create("file"), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _copy(source: Path, target: Path) -> None:
    # cp keeps an image's holes, and shares blocks where the file system can.
    done = subprocess.run(
        ["cp", "--reflink=auto", "--sparse=auto", "--no-preserve=mode", str(source.absolute()), str(target.absolute())],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ImageError(f"cannot copy {source}: {done.stderr.strip()}", "See that there is room for a copy of it.")


def _check(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode:
        said = " ".join(line.strip() for line in done.stdout.splitlines() if _tells(line))
        raise ImageError(f"{what}: {said or 'mender-artifact failed'}", "The image is as it was.")


def _tells(line: str) -> bool:
    """Whether a line is more than a progress bar or a program's name."""
    return bool(line.strip(" .|-")) and not line.startswith(("debugfs 1.", "0% "))

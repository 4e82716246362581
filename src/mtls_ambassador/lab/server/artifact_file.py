"""The Mender artifact format, version 3: what an artifact says of itself, read in one pass, and its checksums.

Source: mender-artifact, Documentation/artifact-format-v3.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any

from mtls_ambassador.errors import Error

_CHUNK = 1024 * 1024
_LARGEST_TEXT = 1024 * 1024  # bytes of a member that is read as a whole
_HEADER = re.compile(r"header\.tar(\.gz|\.xz)?")
_PAYLOAD = re.compile(r"data/(\d{4})\.tar(\.gz|\.xz)?")
_CHECKSUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError)


class ArtifactRefused(Error):
    """The file is not a Mender artifact that can be read here."""


@dataclass(frozen=True)
class PayloadFile:
    """A file that an update module gets; `size` in bytes, `modified` in seconds since the epoch."""

    name: str
    checksum: str
    size: int
    modified: float


@dataclass(frozen=True)
class Payload:
    """What one update module gets: its name, files and metadata."""

    type: str | None
    files: tuple[PayloadFile, ...]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class ArtifactContents:
    """What an artifact says of itself; `depends` has the device types too."""

    name: str
    device_types: tuple[str, ...]
    provides: Mapping[str, str]
    depends: Mapping[str, Any]
    clears_provides: tuple[str, ...]
    payloads: tuple[Payload, ...]
    signed: bool


def read_artifact(path: Path) -> ArtifactContents:
    """Read an artifact from its file; memory does not grow with its size.

    Raises:
        ArtifactRefused: it is damaged, of another version, or compressed with Zstandard.
    """
    reading = _Reading()
    try:
        with tarfile.open(path, "r:") as outer:
            for member in outer:
                with _open(outer, member) as file:
                    reading.take(member, file)
    except _BROKEN as error:
        raise ArtifactRefused(f"reading artifact error: {error}") from error
    return reading.result()


@dataclass
class _Reading:
    """What is known of an artifact so far; its members come in the order that the format prescribes."""

    manifest: dict[str, str] = field(default_factory=dict)
    version_checksum: str = ""
    signed: bool = False
    info: Any = None
    type_infos: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[PayloadFile]] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)

    def take(self, member: tarfile.TarInfo, file: IO[bytes]) -> None:
        """Read the next member of the artifact."""
        payload = _PAYLOAD.fullmatch(member.name)
        if member.name == "version":
            self._version(_whole(member, file))
        elif member.name == "manifest":
            self._manifest(_whole(member, file))
        elif member.name == "manifest.sig":
            self.signed = True
        elif _HEADER.fullmatch(member.name):
            self._header(member.name, file)
        elif payload:
            self._payload(payload[1], file)
        else:
            # A client would install what it holds; an augmented manifest, for one, has no checksum in the first.
            raise ArtifactRefused(f"reading artifact error: {member.name!r} is not supported here")

    def result(self) -> ArtifactContents:
        """What the artifact says, when all of it was read."""
        if self.info is None:
            raise ArtifactRefused("reading artifact error: there is no header")
        missing = self.manifest.keys() - self.checked
        if missing:
            raise ArtifactRefused(f"reading artifact error: {min(missing)!r} of the manifest is missing")
        given = [_mapping(item) for item in _list(self.info.get("payloads"))]
        infos = [_mapping(self.type_infos.get(f"{number:04}", {})) for number in range(len(given))]
        provides = _mapping(self.info.get("artifact_provides"))
        depends = _mapping(self.info.get("artifact_depends"))
        clears: list[str] = []
        for info in infos:
            provides |= _mapping(info.get("artifact_provides"))
            depends |= _mapping(info.get("artifact_depends"))
            clears += [name for name in _list(info.get("clears_artifact_provides")) if name not in clears]
        name, types = provides.get("artifact_name"), _list(depends.get("device_type"))
        if not isinstance(name, str) or not 1 <= len(name.encode()) <= 4096:
            raise ArtifactRefused("Metadata invalid")
        if not 1 <= len(types) <= 200 or not all(isinstance(item, str) and item for item in types):
            raise ArtifactRefused("Metadata invalid")
        if not all(isinstance(item, str) for item in (*provides.values(), *clears)):
            raise ArtifactRefused("Metadata invalid")
        return ArtifactContents(
            name=name,
            device_types=tuple(types),
            provides=provides,
            depends=depends,
            clears_provides=tuple(clears),
            payloads=tuple(self._payload_of(number, item) for number, item in enumerate(given)),
            signed=self.signed,
        )

    def _version(self, text: bytes) -> None:
        self.version_checksum = hashlib.sha256(text).hexdigest()
        found = _mapping(_json("version", text))
        if found.get("format") != "mender":
            raise ArtifactRefused("reading artifact error: it is no Mender artifact")
        if found.get("version") != 3:
            raise ArtifactRefused(f"unsupported version: {found.get('version')!r}; supported here: 3")

    def _manifest(self, text: bytes) -> None:
        for line in text.decode(errors="replace").splitlines():
            entry = _CHECKSUM.fullmatch(line)
            if entry is None:
                raise ArtifactRefused("reading artifact error: the manifest is malformed")
            self.manifest[entry[2]] = entry[1]
        self._check("version", self.version_checksum)

    def _header(self, name: str, file: IO[bytes]) -> None:
        self._check(name, _digest(file))
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r|*") as header:
            for member in header:
                part = re.fullmatch(r"headers/(\d{4})/(type-info|meta-data)", member.name)
                if member.name != "header-info" and part is None:
                    continue  # state scripts
                with _open(header, member) as content:
                    text = _whole(member, content)
                if part is None:
                    self.info = _mapping(_json(member.name, text))
                elif part[2] == "type-info":
                    self.type_infos[part[1]] = _json(member.name, text)
                elif text:
                    self.metadata[part[1]] = _json(member.name, text)

    def _payload(self, number: str, file: IO[bytes]) -> None:
        found = self.files.setdefault(number, [])
        with tarfile.open(fileobj=file, mode="r|*", bufsize=_CHUNK) as payload:
            for member in payload:
                with _open(payload, member) as content:
                    checksum = _digest(content)
                self._check(f"data/{number}/{member.name}", checksum)
                found.append(PayloadFile(member.name, checksum, member.size, member.mtime))

    def _check(self, name: str, checksum: str) -> None:
        wanted = self.manifest.get(name)
        if wanted is None:
            raise ArtifactRefused(f"reading artifact error: {name!r} is not in the manifest")
        if checksum != wanted:
            raise ArtifactRefused(f"invalid checksum for {name}: expected {wanted}, got {checksum}")
        self.checked.add(name)

    def _payload_of(self, number: int, item: Mapping[str, Any]) -> Payload:
        key, kind = f"{number:04}", item.get("type")
        return Payload(
            kind if isinstance(kind, str) else None,
            tuple(self.files.get(key, ())),
            _mapping(self.metadata.get(key)),
        )


def _open(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member) if member.isreg() else None
    if file is None:
        raise ArtifactRefused(f"reading artifact error: {member.name!r} is not a file")
    return file


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := file.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest()


def _whole(member: tarfile.TarInfo, file: IO[bytes]) -> bytes:
    if member.size > _LARGEST_TEXT:
        raise ArtifactRefused(f"reading artifact error: {member.name!r} is too large")
    return file.read()


def _json(name: str, text: bytes) -> Any:
    try:
        found = json.loads(text)
        # NaN and halves of surrogate pairs, which Python reads but no answer can hold
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        return found
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused(f"reading artifact error: {name!r} is not JSON") from error


def _mapping(value: Any) -> dict[str, Any]:
    """`value` if it is an object; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ArtifactRefused("Metadata invalid")
    return dict(value)


def _list(value: Any) -> list[Any]:
    """`value` as a list; absent ones are empty, and a single text is a list of one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]

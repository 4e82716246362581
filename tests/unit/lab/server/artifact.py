"""Mender artifacts for tests, well made or not."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any


def tar(members: Mapping[str, bytes], mode: str = "w:") -> bytes:
    """A tar file with these members; `mode` as for tarfile.open."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_700_000_000
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def artifact(
    name: str = "release-2",
    *,
    types: Sequence[str] = ("lab",),
    files: Mapping[str, bytes] | None = None,
    compression: str = "xz",
    depends: Mapping[str, Any] | None = None,
    metadata: bytes | None = None,
    header: Mapping[str, bytes] | None = None,
    change: Mapping[str, bytes | None] | None = None,
) -> bytes:
    """An artifact of version 3 with one payload.

    Args:
        name: Of the artifact.
        types: Device types.
        files: Payload by file name.
        compression: "xz", "gz" (which has the time in it) or "".
        depends: Added to what the header says it depends on.
        metadata: Of the payload, as it is in the header.
        header: Further or other members of the header.
        change: Members of the whole that are replaced (None: left out) after the manifest was made.
    """
    files = {"payload.bin": b"x" * 5000} if files is None else files
    info = {
        "payloads": [{"type": "single-file"}],
        "artifact_provides": {"artifact_name": name},
        "artifact_depends": {"device_type": list(types), **(depends or {})},
    }
    type_info = {
        "type": "single-file",
        "artifact_provides": {"rootfs-image.single-file.version": name},
        "clears_artifact_provides": ["rootfs-image.single-file.*"],
    }
    texts = {
        "header-info": json.dumps(info).encode(),
        "scripts/ArtifactInstall_Enter_00": b"#!/bin/sh\n",
        "headers/0000/type-info": json.dumps(type_info).encode(),
        **({} if metadata is None else {"headers/0000/meta-data": metadata}),
        **(header or {}),
    }
    suffix = f".{compression}" if compression else ""
    version = b'{"format":"mender","version":3}'
    packed = tar(texts, f"w:{compression}")
    sums = {
        **{f"data/0000/{file}": content for file, content in files.items()},
        f"header.tar{suffix}": packed,
        "version": version,
    }
    manifest = "".join(f"{hashlib.sha256(content).hexdigest()}  {member}\n" for member, content in sums.items())
    members: dict[str, bytes | None] = {
        "version": version,
        "manifest": manifest.encode(),
        f"header.tar{suffix}": packed,
        f"data/0000.tar{suffix}": tar(files, f"w:{compression}"),
        **(change or {}),
    }
    return tar({member: content for member, content in members.items() if content is not None})

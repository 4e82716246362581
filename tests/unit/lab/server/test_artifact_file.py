"""Artifacts are read as mender-artifact writes them, and nothing damaged passes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mtls_ambassador.lab.server.artifact_file import ArtifactContents, ArtifactRefused, read_artifact
from tests.unit.lab.server.artifact import artifact, tar


def _read(directory: Path, content: bytes) -> ArtifactContents:
    path = directory / "artifact.mender"
    path.write_bytes(content)
    return read_artifact(path)


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_what_an_artifact_says(tmp_path: Path, compression: str) -> None:
    content = artifact(types=("lab", "qemu"), compression=compression, depends={"other": "1"}, metadata=b'{"a": [1]}')
    found = _read(tmp_path, content)
    assert (found.name, found.device_types, found.signed) == ("release-2", ("lab", "qemu"), False)
    assert found.provides == {"artifact_name": "release-2", "rootfs-image.single-file.version": "release-2"}
    assert found.depends == {"device_type": ["lab", "qemu"], "other": "1"}
    assert found.clears_provides == ("rootfs-image.single-file.*",)
    (payload,) = found.payloads
    assert (payload.type, payload.metadata) == ("single-file", {"a": [1]})
    (file,) = payload.files
    assert (file.name, file.size, file.modified) == ("payload.bin", 5000, 1_700_000_000)
    assert file.checksum == hashlib.sha256(b"x" * 5000).hexdigest()


def test_signature_is_noted(tmp_path: Path) -> None:
    assert _read(tmp_path, artifact(change={"manifest.sig": b"anything"})).signed


def test_empty_metadata_is_none(tmp_path: Path) -> None:
    assert _read(tmp_path, artifact(metadata=b"")).payloads[0].metadata == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "reading artifact error"),
        (b"no tar" * 1000, "reading artifact error"),
        (artifact()[:3000], "reading artifact error"),
        (tar({}), "there is no header"),
        (artifact(change={"version": b"{}"}), "no Mender artifact"),
        (artifact(change={"version": b"{"}), "'version' is not JSON"),
        (artifact(change={"version": b'{"format":"mender","version":2}'}), "unsupported version: 2"),
        (artifact(change={"version": b'{"format": "mender", "version": 3}'}), "invalid checksum for version"),
        (artifact(change={"manifest": b"x\n"}), "manifest is malformed"),
        (artifact(change={"manifest": b""}), "'version' is not in the manifest"),
        (artifact(change={"header.tar.xz": tar({"header-info": b"{}"}, "w:xz")}), "invalid checksum for header.tar.xz"),
        (artifact(change={"data/0000.tar.xz": tar({"payload.bin": b"y"}, "w:xz")}), "invalid checksum for data/0000/"),
        (artifact(change={"data/0000.tar.xz": tar({"other": b"y"}, "w:xz")}), "'data/0000/other' is not in the mani"),
        (artifact(change={"data/0000.tar.xz": b"no xz"}), "reading artifact error"),
        (artifact(change={"data/0000.tar.xz": None}), "'data/0000/payload.bin' of the manifest is missing"),
        (artifact(change={"header.tar.xz": None}), "there is no header"),
        (artifact(change={"manifest-augment": b""}), "'manifest-augment' is not supported"),
        (artifact(change={"header.tar.zst": b""}), "'header.tar.zst' is not supported"),
        (artifact(change={"version": b"x" * 1024 * 1025}), "'version' is too large"),
        (artifact(header={"header-info": b"x"}), "'header-info' is not JSON"),
        (artifact(header={"header-info": b"[" * 100_000}), "'header-info' is not JSON"),
        (artifact(metadata=b'{"a": NaN}'), "'headers/0000/meta-data' is not JSON"),
        (artifact(metadata=b'{"a": 1e999}'), "'headers/0000/meta-data' is not JSON"),
        (artifact(metadata=b'{"a": "\\ud800"}'), "'headers/0000/meta-data' is not JSON"),
        (artifact(header={"header-info": b"[]"}), "Metadata invalid"),
        (artifact(header={"header-info": b"{}"}), "Metadata invalid"),
        (artifact(header={"headers/0000/type-info": b'{"artifact_provides":{"a":1}}'}), "Metadata invalid"),
        (artifact(name=""), "Metadata invalid"),
        (artifact(types=()), "Metadata invalid"),
        (artifact(types=("",)), "Metadata invalid"),
    ],
)
def test_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ArtifactRefused, match=said):
        _read(tmp_path, content)

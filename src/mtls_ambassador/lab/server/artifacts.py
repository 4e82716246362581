"""deployments: the artifacts that may be installed, and links to download them.

Source: Mender deployments, management API v1.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtls_ambassador.lab.server.artifact_file import ArtifactContents, Payload, PayloadFile
from mtls_ambassador.lab.server.artifact_store import ArtifactStore
from mtls_ambassador.lab.server.database import Database
from mtls_ambassador.lab.server.deployment_records import Artifact
from mtls_ambassador.lab.server.links import check_link, expiry, sign_link
from mtls_ambassador.lab.server.records import rfc3339
from mtls_ambassador.lab.server.refusals import Refusal

DOWNLOADS = "/api/devices/v1/deployments/download/artifacts"
_LINK_KEY = "link_key"


class ArtifactConflict(Refusal):
    """409: another artifact of that name is for the same devices; `metadata` says which."""

    def __init__(self, other: Artifact) -> None:
        super().__init__(409, "An artifact with the same name has conflicting dependencies")
        self.metadata = {"conflict": {"artifact_name": other.name, **other.depends}}


@dataclass(frozen=True)
class Link:
    """Where an artifact may be had without a token; `uri` lacks scheme and host, `expire` is RFC 3339."""

    uri: str
    expire: str


@dataclass(frozen=True)
class Artifacts:
    """The service.

    Attributes:
        store: Where the artifacts are.
        link_key: Signs links.
        in_use: Whether an unfinished deployment installs artifacts of that name.
        clock: Seconds since the epoch.
    """

    store: ArtifactStore
    link_key: bytes
    in_use: Callable[[str], bool]
    clock: Callable[[], float]

    def add(self, artifact_id: str, description: str, contents: ArtifactContents, uploaded: Path) -> str:
        """Keep an uploaded artifact and return its id.

        Args:
            artifact_id: The id it is to have, "" for a new one.
            description: The operator's.
            contents: Read from the file.
            uploaded: The file; it is moved away.

        Raises:
            ArtifactConflict: an artifact of that name depends on the same.
            Refusal: 409, the id is taken.
        """
        artifact = Artifact(
            artifact_id or str(uuid.uuid4()),
            contents.name,
            description,
            uploaded.stat().st_size,
            rfc3339(self.clock()),
            _shown(contents),
        )
        for other in self.store.artifacts(artifact.name):
            if _overlap(artifact.depends, other.depends):
                raise ArtifactConflict(other)
        if not self.store.add(artifact, uploaded):
            raise Refusal(409, "Artifact with given ID already exists")
        return artifact.id

    def artifact(self, artifact_id: str) -> Artifact:
        """An artifact.

        Raises:
            Refusal: 400 it is no UUID, 404.
        """
        check_uuid(artifact_id)
        found = self.store.artifact(artifact_id)
        if found is None:
            raise Refusal(404, "Resource not found")
        return found

    def for_device(self, name: str, device_type: str) -> Artifact | None:
        """The artifact of that name for devices of that type."""
        return next((item for item in self.store.artifacts(name) if device_type in item.device_types), None)

    def delete(self, artifact_id: str) -> None:
        """Delete an artifact.

        Raises:
            Refusal: 400 it is no UUID, 404, 409 a deployment that is not finished uses it.
        """
        if self.in_use(self.artifact(artifact_id).name):
            raise Refusal(409, "Artifact is used in active deployment")
        self.store.delete(artifact_id)

    def link(self, artifact: Artifact, lifetime: float) -> Link:
        """A link to an artifact, good for `lifetime` seconds."""
        return self.sign(f"{DOWNLOADS}/{artifact.id}", lifetime)

    def sign(self, path: str, lifetime: float) -> Link:
        """A link to `path`, which is not escaped, good for `lifetime` seconds."""
        expires = self.clock() + lifetime
        return Link(sign_link(self.link_key, path, expires), expiry(expires))

    def check_link(self, path: str, query: Mapping[str, str]) -> None:
        """Check that a request came by a link.

        Raises:
            Refusal: 400, 403.
        """
        check_link(self.link_key, path, query, self.clock())


def link_key(database: Database) -> bytes:
    """The key that signs links, made when there is none yet."""
    kept = database.meta(_LINK_KEY)
    if kept is None:
        kept = secrets.token_hex(32)
        database.set_meta(_LINK_KEY, kept)
    return bytes.fromhex(kept)


def check_uuid(text: str) -> None:
    """Check an id in a path.

    Raises:
        Refusal: 400.
    """
    try:
        valid = str(uuid.UUID(text)) == text.lower()
    except ValueError:
        valid = False
    if not valid:
        raise Refusal(400, "ID is not a valid UUID")


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether some device could be told to install either of two artifacts of one name."""
    return one.keys() == other.keys() and all(set(_each(one[key])) & set(_each(other[key])) for key in one)


def _each(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _shown(contents: ArtifactContents) -> dict[str, Any]:
    """The members of the API's object that an artifact says of itself."""
    return {
        "device_types_compatible": list(contents.device_types),
        "info": {"format": "mender", "version": 3},
        "signed": contents.signed,
        "updates": [_update(payload) for payload in contents.payloads],
        "artifact_provides": dict(contents.provides),
        "artifact_depends": {**contents.depends, "device_type": list(contents.device_types)},
        **({"clears_artifact_provides": list(contents.clears_provides)} if contents.clears_provides else {}),
    }


def _update(payload: Payload) -> dict[str, Any]:
    # The form of Mender's database got into the API once, and mender-cli reads that: both are given since.
    legacy = [{"Key": name, "Value": value} for name, value in payload.metadata.items()]
    metadata = {"metadata": dict(payload.metadata), "meta_data": legacy} if legacy else {}
    return {"type_info": {"type": payload.type}, "files": [_file(item) for item in payload.files], **metadata}


def _file(item: PayloadFile) -> dict[str, Any]:
    return {"name": item.name, "checksum": item.checksum, "size": item.size, "date": rfc3339(item.modified)}

"""The artifact of a configuration deployment, made when a device downloads it. Pure.

It has no payload: the update module mender-configure finds the configuration in the artifact's metadata. The same
arguments give the same bytes. Source: mender-artifact, Documentation/artifact-format-v3.md; Mender deployments,
app/app.go (GenerateConfigurationImage).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping

from mtls_ambassador.lab.server.goencode import marshal

MODULE = "mender-configure"
_PROVIDES = f"data-partition.{MODULE}"


def configuration_artifact(name: str, device_type: str, configuration: str) -> bytes:
    """An artifact of version 3, neither compressed nor signed.

    Args:
        name: Of the artifact.
        device_type: The one type it is for.
        configuration: A JSON object.
    """
    info = {
        "payloads": [{"type": MODULE}],
        "artifact_provides": {"artifact_name": name},
        "artifact_depends": {"device_type": [device_type]},
    }
    type_info = {
        "type": MODULE,
        "artifact_provides": {f"{_PROVIDES}.version": name},
        "clears_artifact_provides": [f"{_PROVIDES}.*"],
    }
    version = marshal({"format": "mender", "version": 3}).encode()
    header = _tar(
        {
            "header-info": marshal(info).encode(),
            "headers/0000/type-info": marshal(type_info).encode(),
            "headers/0000/meta-data": configuration.encode(),
        }
    )
    sums = {"header.tar": header, "version": version}
    manifest = "".join(f"{hashlib.sha256(content).hexdigest()}  {member}\n" for member, content in sums.items())
    return _tar({"version": version, "manifest": manifest.encode(), "header.tar": header, "data/0000.tar": _tar({})})


def _tar(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()

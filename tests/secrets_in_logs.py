"""Every log of every test is searched for secrets, debug lines included."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_SHAPES = {
    "a JWT": re.compile(r"eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{8,}"),
    "a bearer token": re.compile(r"[Bb]earer [A-Za-z0-9._~+/=-]{8,}"),
    "basic credentials": re.compile(r"[Bb]asic [A-Za-z0-9+/=]{8,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
}
_AUTHORIZATION = re.compile(rb"^authorization: *(?:bearer|basic) +(\S+)\r$", re.IGNORECASE | re.MULTILINE)


def assert_no_secrets(log: str, known: Iterable[str]) -> None:
    """Fail if the log holds one of the `known` secrets, or anything of a secret's shape.

    Raises:
        AssertionError: it does; the text names the line, not the secret.
    """
    for number, line in enumerate(log.splitlines(), 1):
        for name, shape in _SHAPES.items():
            assert not shape.search(line), f"line {number} of the log holds {name}"
    for secret in known:
        assert secret not in log, f"the log holds a secret of {len(secret)} characters"


def credentials_sent(traffic: bytes) -> set[str]:
    """Every token and basic credential in recorded requests."""
    return {value.decode("latin-1") for value in _AUTHORIZATION.findall(traffic) if len(value) > 8}


def private_keys_in(directory: Path) -> set[str]:
    """A telling line of each private key file below a directory."""
    found = set()
    for path in directory.rglob("*.key"):
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        if "PRIVATE KEY" in (lines or [""])[0]:
            found.add(lines[1])
    return found

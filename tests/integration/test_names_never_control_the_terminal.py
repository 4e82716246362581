"""Names of others on a real terminal: click takes escape sequences out of pipes by itself, so those prove nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.certificates import CertificateAuthority, new_key
from tests.unit.pki.test_request import csr

EVIL = "a\x1b[31mb\x9b2J\u202ec\u2066\u200bd\x07\r\ne"
SEEN = r"a\x1b[31mb\x9b2J\u202ec\u2066\u200bd\x07\r\ne"


async def on_a_terminal(directory: Path, *arguments: str) -> str:
    """What a command of `pki` writes to its terminal, standard error too."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mtls_ambassador", "pki", *arguments,
            cwd=directory, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm"},
        )  # fmt: skip
    finally:
        os.close(theirs)
    written = await asyncio.to_thread(_read, ours)
    await process.wait()
    return written.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    parts = []
    with contextlib.suppress(OSError):  # how Linux says that nobody has the other side open any more
        while part := os.read(terminal, 1 << 16):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ca = CertificateAuthority("My CA")
    (tmp_path / "ca-cert.pem").write_bytes(ca.pem)
    (tmp_path / "ca-private.key").write_bytes(ca.key_pem)
    (tmp_path / "ca-private.key").chmod(0o600)
    (tmp_path / "device-cert.pem").write_bytes(ca.device(EVIL).pem)
    (tmp_path / "foreign.pem").write_bytes(CertificateAuthority(EVIL).device(EVIL).pem)
    (tmp_path / "foreign.crl").write_bytes(CertificateAuthority(EVIL).crl())
    (tmp_path / "x.req").write_bytes(csr(new_key(), EVIL).public_bytes(Encoding.PEM))
    (tmp_path / f"{EVIL}.pem").write_text("nothing")
    (tmp_path / "list.csv").write_text("name\n" + '"x\x1b[31m"\n')
    return tmp_path


@pytest.mark.parametrize(
    "commands",
    [
        (("show", "device-cert.pem", "foreign.pem", "foreign.crl", "x.req"),),
        (("adopt", "--issued", "foreign.pem"), ("list",), ("revoke", "device-cert.pem"), ("list",)),
        (("verify", "device-cert.pem", "foreign.pem"),),
        (("verify", "foreign.crl", "x.req"),),
        (("sign", "x.req"),),
        (("renew", "foreign.pem"),),
        (("renew", "device-cert.pem", "--out", "new"),),
        (("show", f"{EVIL}.pem"),),
    ],
    ids=lambda commands: " ".join(commands[0][:2]) if commands[0][0] != "show" else None,
)
async def test_names_of_others_are_seen_and_not_obeyed(folder: Path, commands: tuple[tuple[str, ...], ...]) -> None:
    for number, command in enumerate(commands):
        out = await on_a_terminal(folder, *command)
        assert all(line.isprintable() for line in out.split("\n")), out
        if number or len(commands) == 1:
            assert SEEN in out.replace("\\\\", "\\")


async def test_a_list_of_devices_neither(folder: Path) -> None:
    out = await on_a_terminal(folder, "batch", "list.csv", "--cn", "{name}", "--out", "batch")
    # The progress bar clears its line; nothing else is there to be obeyed.
    assert "\\x1b[31m" in out
    assert "\x1b" not in out.replace("\r\x1b[K", "")

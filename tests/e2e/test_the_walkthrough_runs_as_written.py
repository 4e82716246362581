"""docs/guide/walkthrough.md, from the document itself: its commands end with an accepted device."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from mtls_ambassador.device.conf import Wanted, merge
from tests import disk_image, ssh_device
from tests.walkthrough import DOCUMENT, blocks

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(400)
@pytest.mark.needs(*disk_image.PROGRAMS, *ssh_device.PEERS, "openssl", "curl")
async def test_the_walkthrough_runs_as_written(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *(sys.executable, "-m", "tests.walkthrough", str(tmp_path)),
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode(errors="replace")
    assert '"status":"accepted"' in output.decode().replace(" ", "")


def test_every_block_of_the_walkthrough_is_commands_or_what_they_print() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    kinds = re.findall(r"^```(\S*)$", text, re.MULTILINE)[::2]
    assert set(kinds) == {"bash", "json", ""}
    assert len(blocks(text)) == kinds.count("bash")


def test_the_configuration_shown_is_the_one_that_is_made() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before = re.search(r"^cat > mender\.conf <<EOF\n(.*?)^EOF$", text, re.MULTILINE | re.DOTALL)
    after = re.search(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert before is not None
    assert after is not None
    assert merge(before[1], Wanted(server_url="https://my-server.com:8080")).text == after[1]

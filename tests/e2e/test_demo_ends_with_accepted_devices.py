"""`mtls-ambassador demo --exit`: step by step to a table of accepted devices, the real client among them, status 0."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.edge_process import PROGRAM
from tests.secrets_in_logs import assert_no_secrets

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.needs("mender", "unshare")
def test_demo_ends_with_accepted_devices(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        [*PROGRAM, "demo", "--exit"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\naccepted  mac=") == 2
    assert "mac=52:54:00:00:00:01" in done.stdout
    printed = {_without_numbers(line) for line in done.stdout.splitlines()}
    assert [line for line in _shown_in_the_readme() if _without_numbers(line) not in printed] == []
    assert "mender_client_version=3." in done.stdout
    assert "refused by TLS" in done.stdout
    assert_no_secrets(done.stdout + done.stderr, ())
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def _shown_in_the_readme() -> list[str]:
    """The lines under "See it work" that it says the demo ends with."""
    section = README.read_text(encoding="utf-8").partition("## See it work\n")[2].partition("\n## ")[0]
    _, shown = re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(shown).splitlines()


def _without_numbers(line: str) -> str:
    """How long it took, and which client is installed, differ from machine to machine."""
    return re.sub(r"(?<=This took )[\d.]+|(?<=mender_client_version=).*", "#", line)

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from mtls_ambassador.factory import folder
from mtls_ambassador.factory.errors import BatchError


def never() -> None:
    pytest.fail("nobody else is there")


def test_a_batch_keeps_its_identifier_and_its_settings(tmp_path: Path) -> None:
    with folder.locked(tmp_path / "out", never):
        batch = folder.identify(tmp_path / "out", {"--cn": "{n}", "--days": 3})
        assert folder.identify(tmp_path / "out", {"--cn": "{n}", "--days": 3}) == batch
        with pytest.raises(BatchError, match="begun with another --days"):
            folder.identify(tmp_path / "out", {"--cn": "{n}", "--days": 4})
    assert folder.identify(tmp_path, {}) != batch


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"batch": "a", "settings": 1}', "\xff"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / folder.SETTINGS).write_text(text, encoding="latin-1")
    with pytest.raises(BatchError, match="not what a batch leaves"):
        folder.identify(tmp_path, {})


def test_one_run_waits_for_another(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    waiting, got = threading.Event(), threading.Event()

    def second() -> None:
        with folder.locked(tmp_path, waiting.set):
            got.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert waiting.wait(60)
    assert not got.is_set()
    os.close(other)
    assert got.wait(60)
    thread.join()

"""A ledger in a file of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from mtls_ambassador.ledger.database import FILE, open_database
from tests.unit.ledger.examples import database


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tables in it, which takes a while to make; for copying."""
    directory = tmp_path_factory.mktemp("empty-ledger")
    open_database(database(directory)).close()
    return directory / FILE


@pytest.fixture
def directory(tmp_path: Path, empty_ledger: Path) -> Path:
    """A state directory with an empty ledger."""
    shutil.copy(empty_ledger, tmp_path / FILE)
    return tmp_path


@pytest.fixture
def connection(directory: Path) -> Iterator[Connection]:
    opened = open_database(database(directory))
    yield opened
    opened.close()

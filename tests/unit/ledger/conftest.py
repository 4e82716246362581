"""A ledger in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from mtls_ambassador.ledger.database import open_database
from tests.unit.ledger.examples import database


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    opened = open_database(database(tmp_path))
    yield opened
    opened.close()

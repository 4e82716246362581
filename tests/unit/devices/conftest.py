"""Ledgers for these tests are made as for the ledger's own."""

from __future__ import annotations

from tests.unit.ledger.conftest import connection, directory, empty_ledger

__all__ = ["connection", "directory", "empty_ledger"]

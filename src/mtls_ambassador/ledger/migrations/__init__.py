"""Alembic's migrations of the ledger. A released one is never changed."""

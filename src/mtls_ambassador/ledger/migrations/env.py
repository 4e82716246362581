"""How Alembic reaches the database: by the connection it is handed, in the transaction that is open there."""

from __future__ import annotations

from alembic import context

from mtls_ambassador.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

"""Bringing a database's schema up to date. Alembic is only loaded when it is not: it takes ten megabytes."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, String, column, inspect, select, table

from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.schema import REVISION

_SCRIPTS = Path(__file__).parent / "migrations"
_VERSION = table("alembic_version", column("version_num", String))


class UnknownSchema(Error):
    """The ledger was written by a newer version of this program, or by another one."""


def revision(connection: Connection) -> str | None:
    """Which version of the schema the database has; None: it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def migrate(connection: Connection) -> None:
    """Bring the schema up to date, in the transaction that `connection` is in, which keeps every other writer out.

    Raises:
        UnknownSchema: its version is none that this program knows.
    """
    if revision(connection) == REVISION:
        return
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    now = revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if now is not None and now not in known:
        raise UnknownSchema(
            f"the ledger's schema is of version {now}, which this program does not know",
            "Run the newer version of mtls-ambassador that wrote it, or begin a new ledger.",
        )
    command.upgrade(config, "head")

"""Bringing a database's schema up to date. Alembic takes twelve megabytes: only a schema of an older version needs it.

An empty database gets the tables as `schema` has them, and the mark of the newest migration, as if all had run.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select
from sqlalchemy.schema import PrimaryKeyConstraint

from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.schema import REVISION, metadata

_SCRIPTS = Path(__file__).parent / "migrations"
# As Alembic makes it.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class UnknownSchema(Error):
    """The ledger was written by a newer version of this program, or by another one."""


def revision(connection: Connection) -> str | None:
    """Which version of the schema the database has; None: it is empty."""
    if not inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def migrate(connection: Connection) -> None:
    """Bring the schema up to date, in the transaction that `connection` is in, which keeps every other writer out.

    Raises:
        UnknownSchema: its version is none that this program knows.
    """
    now = revision(connection)
    if now is None:
        for tables in (metadata, _VERSION.metadata):
            tables.create_all(connection, checkfirst=False)  # a stranger's table of the same name is an error
        connection.execute(insert(_VERSION).values(version_num=REVISION))
    elif now != REVISION:
        upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Run the migrations that the database lacks; all of them if it is empty.

    Raises:
        UnknownSchema: its version is none that this program knows.
    """
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    now = revision(connection)
    if now is not None and now not in known:
        raise UnknownSchema(
            f"the ledger's schema is of version {now}, which this program does not know",
            "Run the newer version of mtls-ambassador that wrote it, or begin a new ledger.",
        )
    command.upgrade(config, "head")

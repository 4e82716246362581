"""The migrations make the tables that the program uses, once, and let strangers' tables alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from mtls_ambassador.ledger import migration
from mtls_ambassador.ledger.database import writing
from mtls_ambassador.ledger.migration import UnknownSchema, migrate, revision
from mtls_ambassador.ledger.schema import REVISION, metadata
from tests.unit.ledger.examples import database


def test_the_tables_are_those_of_the_schema(connection: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_the_newest_migration_is_the_one_the_program_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "newline")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_migrating_again_changes_nothing(connection: Connection) -> None:
    with writing(connection):
        migrate(connection)
        migrate(connection)
    assert revision(connection) == REVISION


def test_a_newer_schema_is_not_touched(connection: Connection) -> None:
    with writing(connection):
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnknownSchema, match="9999"), writing(connection):
        migrate(connection)


def test_alembic_is_not_loaded_for_a_schema_that_is_current(directory: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mtls_ambassador.ledger.database import Database, open_database;"
        "open_database(Database.at(None, Path(sys.argv[1]))).close();"
        "print(*{'alembic', 'psycopg', 'sqlalchemy.dialects.postgresql'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, directory], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
    assert database(directory).file

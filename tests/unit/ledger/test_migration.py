"""The migrations make the tables that the program uses, once, and let strangers' tables alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from mtls_ambassador.ledger import migration
from mtls_ambassador.ledger.database import FILE, writing
from mtls_ambassador.ledger.migration import UnknownSchema, migrate, revision, upgrade
from mtls_ambassador.ledger.schema import REVISION, metadata
from tests.unit.ledger.examples import database


@pytest.mark.parametrize("way", [migrate, upgrade], ids=["at once", "migration by migration"])
def test_an_empty_database_gets_the_tables_of_the_schema(tmp_path: Path, way: Callable[[Connection], None]) -> None:
    with database(tmp_path).engine().connect() as connection:
        with writing(connection):
            way(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
        assert revision(connection) == REVISION


def test_both_ways_to_the_tables_lead_to_the_same(tmp_path: Path) -> None:
    assert _made(tmp_path / "at once", migrate) == _made(tmp_path / "one by one", upgrade)


def _made(directory: Path, way: Callable[[Connection], None]) -> dict[str, object]:
    """All that SQLAlchemy finds out about each table."""
    directory.mkdir()
    with database(directory).engine().connect() as connection:
        with writing(connection):
            way(connection)
        found = inspect(connection)
        return {
            name: (
                [column | {"type": str(column["type"])} for column in found.get_columns(name)],
                found.get_pk_constraint(name),
                sorted(found.get_foreign_keys(name), key=str),
                sorted(found.get_indexes(name), key=str),
                sorted(found.get_unique_constraints(name), key=str),
            )
            for name in found.get_table_names()
        }


def test_a_strangers_table_is_not_taken_for_ours(tmp_path: Path) -> None:
    with database(tmp_path).engine().connect() as connection:
        with connection.begin():
            connection.execute(text("CREATE TABLE devices (mine TEXT)"))
        with pytest.raises(DBAPIError, match="already exists"), writing(connection):
            migrate(connection)
        assert inspect(connection).get_table_names() == ["devices"]


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


@pytest.mark.parametrize("there", [True, False], ids=["a current one", "none yet"])
def test_alembic_is_loaded_for_an_older_schema_only(directory: Path, there: bool) -> None:
    if not there:
        (directory / FILE).unlink()
    program = (
        "import sys; from pathlib import Path; from mtls_ambassador.ledger.database import Database, open_database;"
        "open_database(Database.at(None, Path(sys.argv[1]))).close();"
        "print(*{'alembic', 'psycopg', 'sqlalchemy.dialects.postgresql'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, directory], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
    assert database(directory).file

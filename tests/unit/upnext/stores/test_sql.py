"""Migrations, and what is SQLAlchemy's own."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from upnext.contracts import USERS, VIDEOS
from upnext.errors import CorruptData, StoreError
from upnext.stores.sql import HEAD, METADATA, MIGRATIONS, USER_TABLE, VIDEO_TABLE, Database
from upnext.stores.sql_erasures import SqlErasures


def test_the_tables_have_the_contracts_columns() -> None:
    assert [column.name for column in VIDEO_TABLE.columns] == [*VIDEOS.names, "told", "told_at"]
    assert [column.name for column in USER_TABLE.columns] == [*USERS.names, "told"]


def test_the_migrations_make_the_tables_that_the_program_knows(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


def test_the_newest_migration_is_the_one_that_the_program_needs() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_processes_that_come_at_once_upgrade_once(tmp_path: Path) -> None:
    script = f"from upnext.stores.sql import Database; print(Database('sqlite:///{tmp_path}/a.db').ping())"
    command = [sys.executable, "-W", "error", "-c", script]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert all(f"migration {HEAD}" in text for text in said)


def test_a_put_that_fails_half_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upnext.stores.sql.ROWS", 1)
    database = Database(f"sqlite:///{tmp_path}/a.db")
    wrong = pa.table({"user_id": ["a", "b"], "topics": [["x"], None], "region": ["r", None]})
    columns = [sa.Column("user_id", sa.String, primary_key=True), sa.Column("topics", sa.JSON)]
    columns.append(sa.Column("told", sa.Boolean))
    strict = sa.Table("strict", sa.MetaData(), *columns, sa.Column("region", sa.String, nullable=False))
    with database.engine.begin() as connection:
        strict.create(connection)
    with pytest.raises(StoreError, match="NOT NULL"):
        database.upsert(strict, wrong, told=True)
    with database.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(strict)) == 0
    database.close()


def test_a_database_of_another_migration_is_told(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=f"migration 9999, this program needs {HEAD}"):
        database.ping()
    database.close()
    with pytest.raises(StoreError, match="9999"):
        Database(f"sqlite:///{tmp_path}/a.db")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(CorruptData, match=r"a\.db is no readable SQLite database"):
        Database(f"sqlite:///{tmp_path}/a.db")


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a URL taken for a path would make its folder
    with pytest.raises(StoreError, match=r"postgresql\+pg_nothing://me:\*\*\*@host/db: "):
        Database("postgresql+pg_nothing://me:secret@host/db")
    assert not list(tmp_path.iterdir())


def test_erasures_that_were_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    erasures, rows, read = SqlErasures(database), database.rows, []
    for hours in range(48):
        erasures.remember(str(hours), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours))
    monkeypatch.setattr(database, "rows", lambda query: read.append(rows(query)) or read[-1])
    assert erasures.all() == erasures.all()
    assert [len(found) for found in read] == [48, 25], "all, then the last day's"
    database.close()

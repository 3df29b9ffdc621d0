"""The SQL stores on a PostgreSQL server: made and upgraded by command, and what is told when they are not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import free_port
from upnext.errors import StoreError, StoreUnavailable
from upnext.settings import Settings
from upnext.stores import SQL_PORTS, connect
from upnext.stores.sql import HEAD, METADATA, Database

UPNEXT = [sys.executable, "-m", "upnext.cli.main"]


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    """Of an empty database."""
    return postgres_server.fresh("integration")


@pytest.fixture
def variables(url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    yield (
        os.environ
        | {"UPNEXT_HOME": str(tmp_path)}
        | {f"UPNEXT_{port.upper()}_URL": url for port in SQL_PORTS}
    )


def test_a_server_without_our_tables_is_told_how_to_get_them(url: str, tmp_path: Path) -> None:
    with connect(Settings(home=tmp_path, profiles_url=url)) as stores:
        with pytest.raises(StoreError, match="run `upnext migrate`"):
            stores.profiles.get("ann")
        with pytest.raises(StoreError, match=f"migration none.*needs {HEAD}: run `upnext migrate`"):
            stores.open("profiles").ping()


def test_two_who_migrate_at_once_make_the_tables_once(url: str, variables: dict[str, str]) -> None:
    both = [
        subprocess.Popen([*UPNEXT, "migrate"], env=variables, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all(f"migration {HEAD}" in text for text in said)
    database = Database(url)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


def test_the_doctor_sees_every_store_of_a_migrated_server(variables: dict[str, str]) -> None:
    before = subprocess.run(
        [*UPNEXT, "doctor", "--json"], env=variables, capture_output=True, text=True, check=False
    )
    assert before.returncode == 1 and before.stdout.count("upnext migrate") == len(SQL_PORTS)
    subprocess.run([*UPNEXT, "migrate"], env=variables, check=True, capture_output=True)
    after = subprocess.run(
        [*UPNEXT, "doctor", "--json"], env=variables, capture_output=True, text=True, check=False
    )
    assert after.returncode == 0, after.stdout
    assert after.stdout.count(f"migration {HEAD}") == len(SQL_PORTS)


def test_a_server_that_is_away_is_unavailable_and_its_password_untold() -> None:
    with pytest.raises(StoreUnavailable) as told:
        Database(f"postgresql://upnext:secret@127.0.0.1:{free_port()}/upnext").rows(sa.select(sa.literal(1)))
    assert "127.0.0.1" in str(told.value) and "secret" not in str(told.value)

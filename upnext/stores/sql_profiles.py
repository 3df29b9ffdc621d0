"""Profiles of users through SQLAlchemy: SQLite embedded, or a PostgreSQL server."""

from collections.abc import Mapping
from typing import Self

import pyarrow as pa
import sqlalchemy as sa

from upnext.contracts import USERS
from upnext.settings import Settings
from upnext.stores.sql import USER_TABLE, Database
from upnext.stores.tables import conform


class SqlProfiles:
    """One row per user in the table ``users``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        return cls(Database(url))

    def ping(self) -> str:
        return self._database.ping()

    def close(self) -> None:
        self._database.close()

    def put(self, users: pa.Table) -> None:
        self._database.upsert(USER_TABLE, conform(users, USERS, "users"))

    def get(self, user_id: str) -> Mapping[str, object] | None:
        with self._database.errors(), self._database.engine.connect() as connection:
            row = connection.execute(sa.select(USER_TABLE).where(USER_TABLE.c.user_id == user_id)).first()
        return None if row is None else dict(row._mapping)

    def forget(self, user_id: str) -> bool:
        with self._database.errors(), self._database.engine.begin() as connection:
            gone = connection.execute(sa.delete(USER_TABLE).where(USER_TABLE.c.user_id == user_id))
        return gone.rowcount > 0

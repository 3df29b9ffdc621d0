"""Profiles of users through SQLAlchemy: SQLite embedded, or a PostgreSQL server."""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import sqlalchemy as sa

from upnext.contracts import USERS
from upnext.stores.sql import USER_TABLE, SqlStore
from upnext.stores.tables import conform

_COLUMNS = [USER_TABLE.c[name] for name in USERS.names]
_GET = sa.select(*_COLUMNS).where(USER_TABLE.c.user_id == sa.bindparam("user_id"))
"""Made once: to put it together takes longer than to run it."""


class SqlProfiles(SqlStore):
    """One row per user in the table ``users``."""

    def put(self, users: pa.Table) -> None:
        self._database.upsert(USER_TABLE, conform(users, USERS, "users"), told=True)

    def bring(self, users: pa.Table) -> None:
        self._database.upsert(USER_TABLE, conform(users, USERS, "users"), told=False)

    def get(self, user_id: str) -> Mapping[str, object] | None:
        found = self._database.rows(_GET, {"user_id": user_id})
        return dict(found[0]._mapping) if found else None

    def scan(self, batch: int = 50_000) -> Iterator[pa.Table]:
        return self._database.pages(USER_TABLE, USERS, batch)

    def forget(self, user_id: str) -> bool:
        return self._database.erase(sa.delete(USER_TABLE).where(USER_TABLE.c.user_id == user_id)) > 0

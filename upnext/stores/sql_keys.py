"""Keys to the service through SQLAlchemy: what is needed to check one, never the key itself."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa

from upnext.ports import StoredKey
from upnext.stores.sql import KEY_TABLE, SqlStore


class SqlKeys(SqlStore):
    """One row per key in the table ``keys``; a revoked one stays, so that its id is never given again."""

    def add(self, key: StoredKey) -> None:
        row = asdict(key) | {"scopes": list(key.scopes)}
        self._database.change(sa.insert(KEY_TABLE).values(row))

    def all(self) -> Sequence[StoredKey]:
        found = self._database.rows(sa.select(KEY_TABLE).order_by(KEY_TABLE.c.created_at, KEY_TABLE.c.key_id))
        rows = (dict(row._mapping) for row in found)
        return [StoredKey(**row | {"scopes": tuple(row["scopes"])}) for row in rows]

    def revoke(self, key_id: str, at: datetime) -> bool:
        valid = (KEY_TABLE.c.key_id == key_id) & KEY_TABLE.c.revoked_at.is_(None)
        return self._database.change(sa.update(KEY_TABLE).where(valid).values(revoked_at=at)) > 0

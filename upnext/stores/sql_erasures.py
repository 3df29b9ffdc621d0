"""Who was erased, through SQLAlchemy: pseudonyms and times, no ids."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from upnext.stores.sql import ERASURE_TABLE, SqlStore


class SqlErasures(SqlStore):
    """One row per pseudonym in the table ``erasures``."""

    def remember(self, person: str, at: datetime) -> None:
        self._database.replace(ERASURE_TABLE, {"person": person, "erased_at": at})

    def all(self) -> Mapping[str, datetime]:
        return {row.person: row.erased_at for row in self._database.rows(sa.select(ERASURE_TABLE))}

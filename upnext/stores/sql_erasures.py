"""Who was erased, through SQLAlchemy: pseudonyms and times, no ids."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from upnext.stores.sql import ERASURE_TABLE, Database, SqlStore

OVERLAP = timedelta(days=1)
"""How far the clock of a machine that erases may be behind another's."""


class SqlErasures(SqlStore):
    """One row per pseudonym in the table ``erasures``.

    The register only grows and serving asks for it every other second, so what was read once is kept.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._known: Mapping[str, datetime] = {}

    def remember(self, person: str, at: datetime) -> None:
        self._database.replace(ERASURE_TABLE, {"person": person, "erased_at": at})

    def all(self) -> Mapping[str, datetime]:
        known, query = self._known, sa.select(ERASURE_TABLE)
        if known:
            newest = min(max(known.values()), datetime.now(UTC))  # one from the future hides no later one
            query = query.where(ERASURE_TABLE.c.erased_at >= newest - OVERLAP)
        self._known = {**known, **{row.person: row.erased_at for row in self._database.rows(query)}}
        return self._known

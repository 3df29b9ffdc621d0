"""The catalogue of videos through SQLAlchemy: SQLite embedded, or a PostgreSQL server."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from upnext.contracts import VIDEOS, UtcTime
from upnext.stores.sql import BARRED, VIDEO_TABLE, SqlStore, table_of
from upnext.stores.tables import conform

CHUNK = 900
"""Ids asked for at once; SQLite before 3.32 takes 999 variables a statement."""
NOT_FREE = pa.schema([VIDEOS.field(name) for name in ("video_id", "status", "age_restricted")])
"""Columns of :meth:`upnext.ports.Catalogue.barred`."""
TOLD = VIDEOS.append(pa.field("told_at", UtcTime))
"""Columns of :meth:`upnext.ports.Catalogue.told`."""
_COLUMNS = [VIDEO_TABLE.c[name] for name in VIDEOS.names]


class SqlCatalogue(SqlStore):
    """One row per video in the table ``videos``."""

    def put(self, videos: pa.Table) -> None:
        self._database.upsert(VIDEO_TABLE, conform(videos, VIDEOS, "videos"), told=True)

    def bring(self, videos: pa.Table) -> None:
        self._database.upsert(VIDEO_TABLE, conform(videos, VIDEOS, "videos"), told=False)

    def get(self, video_ids: Sequence[str]) -> pa.Table:
        wanted = list(dict.fromkeys(video_ids))
        found: list[sa.Row[Any]] = []
        for start in range(0, len(wanted), CHUNK):
            chosen = VIDEO_TABLE.c.video_id.in_(wanted[start : start + CHUNK])
            found += self._database.rows(sa.select(*_COLUMNS).where(chosen))
        row_of = {row[0]: place for place, row in enumerate(found)}
        order = [row_of[video] for video in video_ids if video in row_of]
        return table_of(found, VIDEOS).take(np.array(order, np.int64))

    def barred(self) -> pa.Table:
        columns = [VIDEO_TABLE.c[name] for name in NOT_FREE.names]
        return table_of(self._database.rows(sa.select(*columns).where(BARRED)), NOT_FREE)

    def told(self, since: datetime, most: int) -> pa.Table:
        at = VIDEO_TABLE.c.told_at
        newest = sa.select(*_COLUMNS, at).where(at >= since).order_by(at.desc()).limit(most)
        return table_of(self._database.rows(newest)[::-1], TOLD)

    def scan(self, batch: int = 50_000) -> Iterator[pa.Table]:
        return self._database.pages(VIDEO_TABLE, VIDEOS, batch)

    def count(self) -> int:
        return int(self._database.rows(sa.select(sa.func.count()).select_from(VIDEO_TABLE))[0][0])

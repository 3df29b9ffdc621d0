"""The catalogue of videos through SQLAlchemy: SQLite embedded, or a PostgreSQL server."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from upnext.contracts import VIDEOS
from upnext.settings import Settings
from upnext.stores.sql import VIDEO_TABLE, Database
from upnext.stores.tables import conform

CHUNK = 900
"""Ids asked for at once; SQLite before 3.32 takes 999 variables a statement."""


class SqlCatalogue:
    """One row per video in the table ``videos``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        return cls(Database(url))

    def ping(self) -> str:
        return self._database.ping()

    def close(self) -> None:
        self._database.close()

    def put(self, videos: pa.Table) -> None:
        self._database.upsert(VIDEO_TABLE, conform(videos, VIDEOS, "videos"))

    def get(self, video_ids: Sequence[str]) -> pa.Table:
        wanted = list(dict.fromkeys(video_ids))
        found: list[sa.Row[Any]] = []
        with self._database.errors(), self._database.engine.connect() as connection:
            for start in range(0, len(wanted), CHUNK):
                chosen = VIDEO_TABLE.c.video_id.in_(wanted[start : start + CHUNK])
                found += connection.execute(sa.select(VIDEO_TABLE).where(chosen)).all()
        row_of = {row[0]: place for place, row in enumerate(found)}
        order = [row_of[video] for video in video_ids if video in row_of]
        return _table(found).take(np.array(order, np.int64))

    def scan(self, batch: int = 50_000) -> Iterator[pa.Table]:
        key = VIDEO_TABLE.c.video_id
        page = sa.select(VIDEO_TABLE).order_by(key).limit(batch)
        last = ""
        while True:
            with self._database.errors(), self._database.engine.connect() as connection:
                rows = connection.execute(page.where(key > last)).all()
            if not rows:
                return
            yield _table(rows)
            last = rows[-1][0]

    def count(self) -> int:
        with self._database.errors(), self._database.engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(VIDEO_TABLE)) or 0


def _table(rows: Sequence[sa.Row[Any]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(VIDEOS)
    return pa.table([list(column) for column in columns], schema=VIDEOS)

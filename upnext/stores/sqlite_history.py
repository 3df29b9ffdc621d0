"""Watch history in one SQLite file: per user what was done in the last days, the newest side by side."""

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from upnext.contracts import EVENTS, EventType
from upnext.settings import Settings
from upnext.stores.sqlite import GroupCommit, Job, database_path, open_sqlite, sqlite_errors
from upnext.stores.tables import conform
from upnext.times import microseconds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
    user_id TEXT NOT NULL,
    timestamp INTEGER NOT NULL,  -- microseconds since 1970, UTC
    event_id TEXT NOT NULL UNIQUE,
    video_id TEXT,
    event_type TEXT NOT NULL,
    watch_duration_ms INTEGER,
    query TEXT,
    PRIMARY KEY (user_id, timestamp, event_id)
) WITHOUT ROWID;
"""
_STORED = ("user_id", "timestamp", "event_id", "video_id", "event_type", "watch_duration_ms", "query")
_CACHE_KIB = 64_000
"""Pages that the writer may hold: event_ids come in no order, and touch pages all over their index."""
RECENT = pa.schema(
    [EVENTS.field(name) for name in ("video_id", "event_type", "watch_duration_ms", "query", "timestamp")]
)
"""Columns of :meth:`upnext.ports.WatchHistory.recent`."""


class SqliteHistory:
    """Rows of a user lie together in the order of time, so that reading the newest is one range scan."""

    def __init__(self, path: Path, days: int) -> None:
        self._path = path
        self._ttl = timedelta(days=days)
        writer = open_sqlite(path, _SCHEMA)
        writer.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        writer.execute("PRAGMA synchronous = NORMAL")  # the event log is on disk, and read again from there
        self._writer = GroupCommit(writer)
        self._reader = open_sqlite(path, "")
        self._reading = Lock()

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        return cls(database_path(url), settings.history_days)

    def ping(self) -> str:
        with sqlite_errors(self._path), self._reading:
            self._reader.execute("SELECT 1 FROM history LIMIT 1").fetchone()
        return f"SQLite {sqlite3.sqlite_version}, {self._ttl.days} days"

    def close(self) -> None:
        self._writer.close()
        with self._reading:
            self._reader.close()

    def add(self, events: pa.Table) -> int:
        events = conform(events, EVENTS, "events")
        events = events.filter(pc.not_equal(events["event_type"], EventType.IMPRESSION.value)).select(_STORED)
        moments = events["timestamp"].cast(pa.int64())
        rows = events.set_column(1, "timestamp", moments).to_pydict().values()
        marks = ", ".join("?" * len(_STORED))

        def insert(connection: sqlite3.Connection) -> int:
            before = connection.total_changes
            connection.executemany(f"INSERT OR IGNORE INTO history VALUES ({marks})", zip(*rows, strict=True))  # noqa: S608
            return connection.total_changes - before

        return self._run(insert)

    def flush(self) -> None:
        with sqlite_errors(self._path):
            self._writer.flush()

    def recent(self, user_id: str, now: datetime, limit: int = 200) -> pa.Table:
        with sqlite_errors(self._path), self._reading:
            rows = self._reader.execute(
                "SELECT video_id, event_type, watch_duration_ms, query, timestamp FROM history"
                " WHERE user_id = ? AND timestamp >= ? ORDER BY timestamp DESC, event_id LIMIT ?",
                (user_id, self._oldest(now), limit),
            ).fetchall()
        columns = zip(*rows, strict=True) if rows else ((),) * len(RECENT)
        return pa.table(list(map(list, columns)), schema=RECENT)

    def forget(self, user_id: str) -> int:
        gone = "DELETE FROM history WHERE user_id = ?"
        dropped = self._run(lambda db: db.execute(gone, (user_id,)).rowcount)
        with sqlite_errors(self._path):
            self._writer.scrub()
        return dropped

    def purge(self, now: datetime) -> int:
        oldest = self._oldest(now)
        return self._run(lambda db: db.execute("DELETE FROM history WHERE timestamp < ?", (oldest,)).rowcount)

    def _run(self, job: Job[int]) -> int:
        with sqlite_errors(self._path):
            return self._writer.run(job)

    def _oldest(self, now: datetime) -> int:
        return microseconds(now - self._ttl)

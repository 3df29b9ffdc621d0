"""The event log in one SQLite file: ordered by a sequence number, flushed to disk before it answers."""

from collections.abc import Sequence
from pathlib import Path
from threading import Condition
from time import monotonic
from typing import ClassVar

import pyarrow as pa

from upnext.contracts import EVENTS, Event
from upnext.ports import EventBatch
from upnext.stores.sqlite_log import SqliteLog, sequence
from upnext.times import microseconds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again after a purge, so a position stays true
    event_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    video_id TEXT,
    watch_duration_ms INTEGER,
    query TEXT,
    timestamp INTEGER NOT NULL,  -- microseconds since 1970, UTC
    session_id TEXT,
    request_id TEXT,
    surface TEXT,
    position INTEGER,
    device TEXT,
    region TEXT,
    propensity REAL
);
"""
_COLUMNS = ", ".join(EVENTS.names)
_INSERT = f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES ({', '.join('?' * len(EVENTS))})"  # noqa: S608
_READ = f"SELECT seq, {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_POLL_S = 0.05
"""Seconds between looks for events that other processes append."""
_FORGET_ROWS = 50_000
"""Rows looked through at once for those of one user, so that other readers come in between."""


class SqliteEventLog(SqliteLog):
    """Readers in this process are woken by an append; others look for it."""

    table: ClassVar[str] = "events"
    schema: ClassVar[str] = _SCHEMA

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._appended = Condition()
        self._appends = 0

    def append(self, events: Sequence[Event]) -> list[bool]:
        rows = [_row(event) for event in events]
        if not rows:
            return []
        new = self._run(lambda db: [db.execute(_INSERT, row).rowcount == 1 for row in rows])
        with self._appended:
            self._appends += 1
            self._appended.notify_all()
        return new

    def read(self, after: str = "", limit: int = 10_000, wait_s: float = 0.0) -> EventBatch:
        start = sequence(after)
        deadline = monotonic() + wait_s
        while True:
            seen = self._appends
            rows = self._rows(_READ, start, limit)
            left = deadline - monotonic()
            if rows or left <= 0:
                return _batch(rows, after)
            with self._appended:
                if self._appends == seen:
                    self._appended.wait(min(left, _POLL_S))

    def forget(self, user_id: str) -> int:
        first, newest = self._rows("SELECT min(seq), max(seq) FROM events")[0]
        find = "SELECT seq FROM events WHERE seq BETWEEN ? AND ? AND user_id = ?"
        dropped = 0
        for start in range(first or 0, (newest or -1) + 1, _FORGET_ROWS):
            rows = self._rows(find, start, start + _FORGET_ROWS - 1, user_id)
            dropped += self._drop(rows) if rows else 0
        self._scrub()
        return dropped


def _row(event: Event) -> tuple[object, ...]:
    return (
        event.event_id,
        event.user_id,
        event.event_type.value,
        event.video_id,
        event.watch_duration_ms,
        event.query,
        microseconds(event.timestamp),
        event.session_id,
        event.request_id,
        event.surface,
        event.position,
        event.device,
        event.region,
        event.propensity,
    )


def _batch(rows: list[tuple[object, ...]], after: str) -> EventBatch:
    if not rows:
        return EventBatch(EVENTS.empty_table(), after)
    position, *columns = zip(*rows, strict=True)
    return EventBatch(pa.table([list(column) for column in columns], schema=EVENTS), str(position[-1]))

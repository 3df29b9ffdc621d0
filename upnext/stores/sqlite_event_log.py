"""The event log in one SQLite file: ordered by a sequence number, flushed to disk before it answers."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from threading import Condition, Lock
from time import monotonic
from typing import Self

import pyarrow as pa

from upnext.contracts import EVENTS, Event
from upnext.errors import InvalidRequest
from upnext.ports import EventBatch
from upnext.settings import Settings
from upnext.stores.sqlite import GroupCommit, database_path, open_sqlite, sqlite_errors
from upnext.stores.tables import micros

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
CREATE TABLE IF NOT EXISTS positions (consumers TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = ", ".join(EVENTS.names)
_INSERT = f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES ({', '.join('?' * len(EVENTS))})"  # noqa: S608
_READ = f"SELECT seq, {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_POLL_S = 0.05
"""Seconds between looks for events that other processes append."""
_PURGE_ROWS = 20_000
"""Rows dropped in one transaction, so that a purge holds up no append for long."""
_FORGET_ROWS = 50_000
"""Rows looked through at once for those of one user, so that other readers come in between."""


class SqliteEventLog:
    """Appends of many threads share a commit; those of other processes take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = GroupCommit(open_sqlite(path, _SCHEMA))
        self._reader = open_sqlite(path, "")
        self._reading = Lock()
        self._appended = Condition()
        self._appends = 0

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        return cls(database_path(url))

    def ping(self) -> str:
        with sqlite_errors(self._path), self._reading:
            newest = self._reader.execute("SELECT max(seq) FROM events").fetchone()[0]
        return f"SQLite {sqlite3.sqlite_version}, newest position {newest or 'none'}"

    def close(self) -> None:
        self._writer.close()
        with self._reading:
            self._reader.close()

    def append(self, events: Sequence[Event]) -> list[bool]:
        rows = [_row(event) for event in events]
        if not rows:
            return []
        with sqlite_errors(self._path):
            new = self._writer.run(lambda db: [db.execute(_INSERT, row).rowcount == 1 for row in rows])
        with self._appended:
            self._appends += 1
            self._appended.notify_all()
        return new

    def read(self, after: str = "", limit: int = 10_000, wait_s: float = 0.0) -> EventBatch:
        start = _sequence(after)
        deadline = monotonic() + wait_s
        while True:
            seen = self._appends
            with sqlite_errors(self._path), self._reading:
                rows = self._reader.execute(_READ, (start, limit)).fetchall()
            left = deadline - monotonic()
            if rows or left <= 0:
                return _batch(rows, after)
            with self._appended:
                if self._appends == seen:
                    self._appended.wait(min(left, _POLL_S))

    def committed(self, group: str) -> str:
        with sqlite_errors(self._path), self._reading:
            found = self._reader.execute("SELECT seq FROM positions WHERE consumers = ?", (group,)).fetchone()
        return str(found[0]) if found else ""

    def commit(self, group: str, position: str) -> None:
        row = (group, _sequence(position))
        with sqlite_errors(self._path):
            self._writer.run(lambda db: db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", row))

    def purge(self, before: datetime) -> int:
        find = "SELECT seq FROM events WHERE seq > ? AND timestamp < ? ORDER BY seq LIMIT ?"
        oldest, last, dropped = micros(before), 0, 0
        while True:
            with sqlite_errors(self._path), self._reading:
                rows = self._reader.execute(find, (last, oldest, _PURGE_ROWS)).fetchall()
            if not rows:
                return dropped
            last = rows[-1][0]
            dropped += self._drop(rows)

    def forget(self, user_id: str) -> int:
        with sqlite_errors(self._path), self._reading:
            newest = self._reader.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
            first = self._reader.execute("SELECT min(seq) FROM events").fetchone()[0] or 0
        find = "SELECT seq FROM events WHERE seq BETWEEN ? AND ? AND user_id = ?"
        dropped = 0
        for start in range(first, newest + 1, _FORGET_ROWS):
            with sqlite_errors(self._path), self._reading:
                rows = self._reader.execute(find, (start, start + _FORGET_ROWS - 1, user_id)).fetchall()
            dropped += self._drop(rows) if rows else 0
        return dropped

    def _drop(self, rows: list[tuple[int]]) -> int:
        with sqlite_errors(self._path):
            return self._writer.run(
                lambda db: db.executemany("DELETE FROM events WHERE seq = ?", rows).rowcount
            )


def _row(event: Event) -> tuple[object, ...]:
    return (
        event.event_id,
        event.user_id,
        event.event_type.value,
        event.video_id,
        event.watch_duration_ms,
        event.query,
        micros(event.timestamp),
        event.session_id,
        event.request_id,
        event.surface,
        event.position,
        event.device,
        event.region,
        event.propensity,
    )


def _sequence(position: str) -> int:
    if not position:
        return 0
    if not position.isdecimal():
        raise InvalidRequest(f"position is {position!r}: pass one that read() answered with, or none")
    return int(position)


def _batch(rows: list[tuple[object, ...]], after: str) -> EventBatch:
    if not rows:
        return EventBatch(EVENTS.empty_table(), after)
    position, *columns = zip(*rows, strict=True)
    return EventBatch(pa.table([list(column) for column in columns], schema=EVENTS), str(position[-1]))

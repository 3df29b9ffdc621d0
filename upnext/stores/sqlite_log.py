"""What the logs kept in one SQLite file share: an order, positions in it, and forgetting from its start."""

import sqlite3
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Self

from upnext.errors import InvalidRequest
from upnext.settings import Settings
from upnext.stores.sqlite import GroupCommit, Job, T, database_path, open_sqlite, sqlite_errors
from upnext.times import microseconds

POSITIONS = """
CREATE TABLE IF NOT EXISTS positions (consumers TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
"""
_PURGE_ROWS = 20_000
"""Rows dropped in one transaction, so that a purge holds up no append for long."""


class SqliteLog:
    """A table whose rows have a ``seq`` that grows and is never used again, and a ``timestamp``.

    Appends of many threads share a commit; those of other processes take turns.
    """

    table: ClassVar[str]
    schema: ClassVar[str]
    """What makes the table; ``seq`` is an AUTOINCREMENT, so that a position stays true after a purge."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = GroupCommit(open_sqlite(path, self.schema + POSITIONS))
        self._reader = open_sqlite(path, "")
        self._reading = Lock()

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        return cls(database_path(url))

    def ping(self) -> str:
        newest = self._rows(f"SELECT max(seq) FROM {self.table}")[0][0]  # noqa: S608
        return f"SQLite {sqlite3.sqlite_version}, newest position {newest or 'none'}"

    def close(self) -> None:
        self._writer.close()
        with self._reading:
            self._reader.close()

    def committed(self, group: str) -> str:
        found = self._rows("SELECT seq FROM positions WHERE consumers = ?", group)
        return str(found[0][0]) if found else ""

    def commit(self, group: str, position: str) -> None:
        row = (group, sequence(position))
        self._run(lambda db: db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", row))

    def purge(self, before: datetime) -> int:
        find = f"SELECT seq FROM {self.table} WHERE seq > ? AND timestamp < ? ORDER BY seq LIMIT ?"  # noqa: S608
        oldest, last, dropped = microseconds(before), 0, 0
        while rows := self._rows(find, last, oldest, _PURGE_ROWS):
            last = rows[-1][0]
            dropped += self._drop(rows)
        return dropped

    def _drop(self, rows: list[tuple[int]]) -> int:
        drop = f"DELETE FROM {self.table} WHERE seq = ?"  # noqa: S608
        return self._run(lambda db: db.executemany(drop, rows).rowcount)

    def _scrub(self) -> None:
        with sqlite_errors(self._path):
            self._writer.scrub()

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with sqlite_errors(self._path), self._reading:
            return self._reader.execute(query, values).fetchall()

    def _run(self, job: Job[T]) -> T:
        with sqlite_errors(self._path):
            return self._writer.run(job)


def sequence(position: str) -> int:
    """The number behind a position; 0 for the empty one."""
    if not position:
        return 0
    if not position.isdecimal():
        raise InvalidRequest(f"position is {position!r}: pass one that read() answered with, or none")
    return int(position)

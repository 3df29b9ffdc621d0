"""What the SQLite adapters share: opening a database, grouping commits, mapping errors."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import Any, Generic, TypeVar, cast

from upnext.errors import ConfigError, CorruptData, StoreError, StoreUnavailable
from upnext.stores.local import prepare_folder, read_only
from upnext.stores.urls import local_path, masked

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
BUSY_S = 30.0
"""Seconds to wait for another process's write to end."""


def database_path(url: str) -> Path:
    """The database file that a ``sqlite://`` URL names."""
    path = local_path(url)
    if path is None:
        raise ConfigError(f"{masked(url)!r} is no SQLite file: write sqlite:///folder/name.db")
    return path


def open_sqlite(path: Path, schema: str) -> sqlite3.Connection:
    """A connection in WAL mode whose commits reach the disk, with the schema made when it is missing.

    It may be used from any thread, by one at a time; transactions are begun and ended explicitly.
    """
    prepare_folder(path.parent)
    with sqlite_errors(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten: see scrub
        connection.executescript(schema)
    return connection


def scrub(connection: Any) -> None:
    """Move the write-ahead log into the database and empty it: what was deleted is readable in neither then.

    The connection is in no transaction. StoreUnavailable when another still reads what was there before.
    """
    _checkpoint(connection, "TRUNCATE", "erase again")


def _checkpoint(connection: Any, how: str, remedy: str) -> None:
    busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
    if busy:
        raise StoreUnavailable(f"another process reads the database just now: {remedy}")


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Map what SQLite raises about a database to Upnext's errors."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_READONLY"):
            raise read_only(path) from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreUnavailable(
                f"{path} has been locked by another process for {BUSY_S:.0f} s: end it, or try again"
            ) from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise CorruptData(f"{path} is no readable SQLite database: restore or remove it") from error
        if name == "SQLITE_FULL":
            raise StoreError(f"no space is left for {path}: free some, nothing was changed") from error
        raise StoreError(f"{path}: {error}") from error


class _Ticket(Generic[T]):
    """A job, and what became of it."""

    def __init__(self, job: Job[T]) -> None:
        self.job = job
        self.woken = Event()
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None


class GroupCommit:
    """Runs jobs of many threads on one connection, committing those that wait together at once.

    Of the threads that wait, one leads: it runs every waiting job in one transaction, commits it, wakes
    those whose jobs these were, and one of those who came meanwhile, who leads the next group. So a commit's
    flush to disk is shared by as many callers as there are, and a lone caller pays for no hand-over.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._writing = Lock()
        self._state = Lock()
        self._waiting: list[_Ticket[Any]] = []
        self._led = False
        """Whether a thread leads, or has been woken to."""

    def run(self, job: Job[T]) -> T:
        """The job's result, once it is committed. A job that raises is rolled back alone."""
        ticket = _Ticket(job)
        with self._state:
            self._waiting.append(ticket)
            follows, self._led = self._led, True
        if follows:
            self._follow(ticket)
        if not ticket.done:
            self._lead()
        if ticket.error:
            raise ticket.error
        return cast(T, ticket.result)

    def scrub(self) -> None:
        """Leave nothing of what was deleted in the file or its write-ahead log (:func:`scrub`)."""
        with self._writing:
            scrub(self._connection)

    def flush(self) -> None:
        """Bring to disk what was committed, where commits do not (``synchronous = NORMAL``)."""
        with self._writing:
            _checkpoint(self._connection, "FULL", "it will be tried again")

    def close(self) -> None:
        """Close the connection after the group being written."""
        with self._writing:
            self._connection.close()

    def _follow(self, ticket: _Ticket[Any]) -> None:
        try:
            ticket.woken.wait()
        except BaseException:  # this thread is told to stop: its job is withdrawn where there is still time
            with self._state:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                    if ticket.woken.is_set():
                        self._hand_over()
            raise

    def _hand_over(self) -> None:
        self._led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].woken.set()

    def _lead(self) -> None:
        with self._state:
            group, self._waiting = self._waiting, []
        try:
            with self._writing:
                self._write(group)
        finally:
            for ticket in group:
                ticket.done = True
                ticket.woken.set()
            with self._state:
                self._hand_over()

    def _write(self, group: list[_Ticket[Any]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for ticket in group:
                self._attempt(ticket)
            self._connection.execute("COMMIT")
        except BaseException as error:
            known = isinstance(error, Exception)  # else this thread was told to stop, not the others
            failure = error if known else StoreError(f"the write was broken off by {error!r}: try again")
            for ticket in group:
                ticket.error = ticket.error or failure
            if not known:
                raise
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _attempt(self, ticket: _Ticket[Any]) -> None:
        self._connection.execute("SAVEPOINT job")
        try:
            ticket.result = ticket.job(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:  # a full disk has undone the whole group
                raise
            self._connection.execute("ROLLBACK TO job")
            ticket.error = error
        self._connection.execute("RELEASE job")

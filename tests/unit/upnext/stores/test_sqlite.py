"""Group commit and the mapping of SQLite's errors."""

import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from upnext.errors import CorruptData, StoreError, StoreUnavailable
from upnext.stores.sqlite import GroupCommit, open_sqlite, sqlite_errors

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[GroupCommit]:
    writer = GroupCommit(open_sqlite(tmp_path / "a.db", SCHEMA))
    yield writer
    writer.close()


def insert(value: int):
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (value,)).lastrowid


def stored(path: Path) -> list[int]:
    connection = sqlite3.connect(path / "a.db")
    rows = connection.execute("SELECT x FROM t ORDER BY x").fetchall()
    connection.close()
    return [row[0] for row in rows]


def test_a_job_is_committed_when_its_result_comes(writer: GroupCommit, tmp_path: Path) -> None:
    assert writer.run(insert(7)) == 7
    assert stored(tmp_path) == [7]


def test_a_failing_job_is_undone_alone(writer: GroupCommit, tmp_path: Path) -> None:
    holding, waiting = Event(), Event()

    def hold(db: sqlite3.Connection) -> None:
        holding.set()
        waiting.wait(10)

    def spoil(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (100)")
        raise ValueError("spoilt")

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(writer.run, hold)
        assert holding.wait(10)
        jobs = [threads.submit(writer.run, job) for job in (insert(1), spoil, insert(2))]
        while len(writer._waiting) < 3:
            pass
        waiting.set()
        first.result()
        assert [job.exception() is None for job in jobs] == [True, False, True]
        assert str(jobs[1].exception()) == "spoilt"
    assert stored(tmp_path) == [1, 2]


def test_those_who_wait_together_share_one_commit(tmp_path: Path) -> None:
    connection = open_sqlite(tmp_path / "a.db", SCHEMA)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    writer = GroupCommit(connection)
    holding, waiting = Event(), Event()

    def hold(db: sqlite3.Connection) -> None:
        holding.set()
        waiting.wait(10)

    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(writer.run, hold)
        assert holding.wait(10)
        rest = [threads.submit(writer.run, insert(value)) for value in range(8)]
        while len(writer._waiting) < 8:
            pass
        waiting.set()
        first.result()
        for job in rest:
            job.result()
    writer.close()
    assert statements.count("COMMIT") == 2
    assert stored(tmp_path) == list(range(8))


CHILD = """
CREATE TABLE child (x REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED);
PRAGMA foreign_keys = ON;
"""


def test_nobody_is_told_success_when_the_commit_fails(tmp_path: Path) -> None:
    writer = GroupCommit(open_sqlite(tmp_path / "a.db", f"{SCHEMA}; {CHILD}"))
    holding, waiting = Event(), Event()

    def hold(db: sqlite3.Connection) -> None:
        holding.set()
        waiting.wait(10)

    def orphan(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO child VALUES (5)")  # noticed by the commit, not here

    with ThreadPoolExecutor(3) as threads:
        threads.submit(writer.run, hold)
        assert holding.wait(10)
        jobs = [threads.submit(writer.run, job) for job in (insert(1), orphan)]
        while len(writer._waiting) < 2:
            pass
        waiting.set()
        assert all("FOREIGN KEY" in str(job.exception()) for job in jobs)
    assert stored(tmp_path) == []
    assert writer.run(insert(1)) == 1, "the next group is not hurt"
    writer.close()


def test_the_leader_being_interrupted_fails_the_group_and_leaves_the_writer_usable(
    writer: GroupCommit, tmp_path: Path
) -> None:
    def interrupt(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (1)")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.run(interrupt)
    assert writer.run(insert(2)) == 2
    assert stored(tmp_path) == [2]


def test_a_waiting_job_whose_thread_is_interrupted_is_withdrawn(writer: GroupCommit, tmp_path: Path) -> None:
    holding, waiting = Event(), Event()

    def hold(db: sqlite3.Connection) -> None:
        holding.set()
        waiting.wait(10)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(writer.run, hold)
        assert holding.wait(10)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            writer.run(insert(1))
        waiting.set()
        first.result()
    signal.signal(signal.SIGALRM, before)
    assert writer.run(insert(2)) == 2
    assert stored(tmp_path) == [2]


def test_what_is_scrubbed_is_in_neither_file_and_a_reader_in_the_way_is_told(tmp_path: Path) -> None:
    held = [tmp_path / "a.db", tmp_path / "a.db-wal"]
    connection = open_sqlite(tmp_path / "a.db", "CREATE TABLE t (x TEXT)")
    connection.execute("PRAGMA busy_timeout = 0")
    writer = GroupCommit(connection)
    writer.run(lambda db: db.execute("INSERT INTO t VALUES ('somebody')"))
    reader = open_sqlite(tmp_path / "a.db", "")
    reader.execute("BEGIN")
    assert reader.execute("SELECT x FROM t").fetchall() == [("somebody",)]
    writer.run(lambda db: db.execute("DELETE FROM t"))
    with pytest.raises(StoreUnavailable, match="erase again"):
        writer.scrub()
    reader.execute("COMMIT")
    assert any(b"somebody" in path.read_bytes() for path in held)
    writer.scrub()
    assert not any(b"somebody" in path.read_bytes() for path in held)
    reader.close()
    writer.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(CorruptData, match=r"a\.db is no readable SQLite database"):
        open_sqlite(tmp_path / "a.db", SCHEMA)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    connection = open_sqlite(tmp_path / "a.db", "CREATE TABLE t (x BLOB)")
    connection.execute("PRAGMA max_page_count = 4")
    writer = GroupCommit(connection)
    with pytest.raises(StoreError, match="no space is left"), sqlite_errors(tmp_path / "a.db"):
        writer.run(lambda db: db.execute("INSERT INTO t VALUES (zeroblob(100000))"))
    writer.close()

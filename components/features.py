"""Step ``features``: snapshots of user and video features in the lake, each of what was known before it."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa
import pyarrow.dataset as ds
from ibis.backends.duckdb import Backend

from feature_repo.aggregates import MEMORY_DAYS, as_of, facts, user_features, video_features
from feature_repo.offline import SNAPSHOT, snapshot_name, snapshots
from feature_repo.specs import USER, VIDEO, ViewSpec
from upnext.ports import Lake

EVERY = timedelta(hours=24)
MEMORY_LIMIT = "1500MB"
TIMESTAMP = "event_timestamp"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OUTCOME_COLUMNS = (
    *("user_id", "video_id", "request_id", "session_id", "timestamp", "engaged_at", "date"),
    *("shown", "clicked", "liked", "shared", "not_interested"),
    *("watched", "watch_ms", "duration_ms", "watch_fraction"),
)


def build_features(
    lake: Lake,
    since: datetime,
    until: datetime,
    times: Iterable[datetime] = (),
    *,
    every: timedelta = EVERY,
    threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Take the snapshots that are not there yet, and say how many rows each table got.

    Parameters
    ----------
    since, until
        Snapshots lie on multiples of ``every`` (midnights, UTC, by default) between them; one more at each.
        Training reads those from the end of the retrievers' history on (:mod:`components.split`).
    times
        Further snapshots, such as where the data set is split. Those outside the interval are left out.
    progress
        Called with the snapshots done and all that there are to do.

    Returns
    -------
    ``snapshots``, ``user_rows``, ``video_rows`` that were written, and ``seconds``.
    """
    started = time.perf_counter()
    wanted = snapshot_times(since, until, times, every)
    there = set(snapshots(lake, USER.name)) & set(snapshots(lake, VIDEO.name))
    due = [at for at in wanted if at not in there]
    rows = {USER.entity: 0, VIDEO.entity: 0}
    if due:
        with _engine(lake, due[0], threads) as con:
            queries = _queries(con, due[0])
            for done, at in enumerate(due):
                progress(done, len(due))
                _move(con, at)
                for view, query in queries:
                    features = con.con.sql(query).to_arrow_table()
                    rows[view.entity] += _write(lake, view, features, at)
            progress(len(due), len(due))
    return {
        "snapshots": float(len(due)),
        "user_rows": float(rows[USER.entity]),
        "video_rows": float(rows[VIDEO.entity]),
        "seconds": time.perf_counter() - started,
    }


def snapshot_times(
    since: datetime, until: datetime, times: Iterable[datetime] = (), every: timedelta = EVERY
) -> list[datetime]:
    """Times of all snapshots between two, both included, ascending."""
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    first, last = -((EPOCH - since) // every), (until - EPOCH) // every
    grid = {EPOCH + every * place for place in range(first, last + 1)}
    more = {time.astimezone(UTC) for time in times}
    return sorted(time for time in grid | more | {since, until} if since <= time <= until)


@contextmanager
def _engine(lake: Lake, first: datetime, threads: int) -> Iterator[Backend]:
    """A DuckDB of our own with facts, users and videos; outcomes too old for any snapshot stay out."""
    with tempfile.TemporaryDirectory(prefix="upnext-features-") as folder:
        con = ibis.duckdb.connect(threads=threads, memory_limit=MEMORY_LIMIT, temp_directory=folder)
        try:
            reach = first - timedelta(days=MEMORY_DAYS)
            outcomes = lake.scan("outcomes").scanner(
                columns=list(OUTCOME_COLUMNS), filter=ds.field("engaged_at") >= reach
            )
            con.con.register("outcomes", outcomes.to_reader())
            for name in ("users", "videos"):
                con.con.register(name, lake.read(name))
            con.create_table("facts", facts(con.table("outcomes"), con.table("videos")))
            yield con
        finally:
            con.disconnect()


def _move(con: Backend, at: datetime) -> None:
    """Let the tables of the past end at a time."""
    for name, column in (("facts", "known_us"), ("users", "created_at"), ("videos", "uploaded_at")):
        con.create_view(f"past_{name}", as_of(con.table(name), column, at), overwrite=True)


def _queries(con: Backend, first: datetime) -> list[tuple[ViewSpec, str]]:
    """Each view's features as SQL over the tables of the past: compiled once, the same for every snapshot."""
    _move(con, first)
    past = con.table("past_facts")
    return [
        (USER, con.compile(user_features(past, con.table("past_users")))),
        (VIDEO, con.compile(video_features(past, con.table("past_videos")))),
    ]


def _write(lake: Lake, view: ViewSpec, table: pa.Table, at: datetime) -> int:
    """Replace one snapshot; says how many rows it has."""
    stamp = pa.array([at], pa.timestamp("us", "UTC"))
    table = table.append_column(TIMESTAMP, stamp.take(pa.array([0] * len(table), pa.int8())))
    table = table.append_column(SNAPSHOT, pa.array([snapshot_name(at)] * len(table), pa.string()))
    lake.overwrite(view.table, table, partition_by=[SNAPSHOT], where=f"{SNAPSHOT} = '{snapshot_name(at)}'")
    return int(table.num_rows)

"""Step ``features``: snapshots of the features in the lake, each of what was known strictly before it.

Counts are SQL, run by DuckDB; vectors are products of matrices (:mod:`feature_repo.vectors`). Each value is
rounded to what its dtype holds, so that what is learned from is what is served.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa
import pyarrow.dataset as ds
from ibis.backends.duckdb import Backend

from components.visual_table import visual_table
from feature_repo.aggregates import MEMORY_DAYS, as_of, facts
from feature_repo.offline import SNAPSHOT, snapshot_name, snapshots
from feature_repo.specs import CREATOR, TIMESTAMP, USER, VIDEO, VIEWS, ViewSpec
from feature_repo.user_aggregates import user_features, watched_pairs
from feature_repo.vectors import VideoVectors, rounded, tastes
from feature_repo.video_aggregates import creator_features, video_features
from upnext.ports import Lake
from upnext.times import EPOCH

EVERY = timedelta(hours=24)
MEMORY_LIMIT = "1500MB"
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
    ``snapshots``, ``user_rows``, ``video_rows`` and ``creator_rows`` that were written, and ``seconds``.
    """
    started = time.perf_counter()
    wanted = snapshot_times(since, until, times, every)
    there = set.intersection(*(set(_current(lake, view)) for view in VIEWS.values()))
    due = [at for at in wanted if at not in there]
    rows = dict.fromkeys((view.entity for view in VIEWS.values()), 0)
    if due:
        vectors = VideoVectors.of(lake.read("videos"), visual_table(lake))
        with _engine(lake, due[0], threads) as con:
            queries = _queries(con, due[0])
            for done, at in enumerate(due):
                progress(done, len(due))
                _move(con, at)
                for view, features in _taken(con, queries, vectors):
                    rows[view.entity] += _write(lake, view, features, at)
            progress(len(due), len(due))
    return {
        "snapshots": float(len(due)),
        **{f"{entity}_rows": float(count) for entity, count in rows.items()},
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


@dataclass(frozen=True)
class _Queries:
    """SQL over the tables of the past: compiled once, the same for every snapshot."""

    users: str
    pairs: str
    videos: str
    creators: str


def _queries(con: Backend, first: datetime) -> _Queries:
    _move(con, first)
    past = con.table("past_facts")
    videos = video_features(past, con.table("past_videos"))
    con.con.execute(f"CREATE OR REPLACE TEMP TABLE video_rows AS {con.compile(videos.limit(0))}")
    return _Queries(
        users=con.compile(user_features(past, con.table("past_users"))),
        pairs=con.compile(watched_pairs(past)),
        videos=con.compile(videos),
        creators=con.compile(creator_features(con.table("video_rows"))),
    )


def _taken(con: Backend, queries: _Queries, vectors: VideoVectors) -> Iterator[tuple[ViewSpec, pa.Table]]:
    """Each view's features as of the time that the tables were moved to."""
    users = con.con.sql(queries.users).to_arrow_table()
    pairs = con.con.sql(queries.pairs).to_arrow_table()
    yield USER, rounded(USER, users, tastes(pairs, users[USER.key], vectors))
    con.con.execute(f"CREATE OR REPLACE TEMP TABLE video_rows AS {queries.videos}")
    videos = con.con.table("video_rows").order(VIDEO.key).to_arrow_table()
    yield VIDEO, rounded(VIDEO, videos, vectors.of_videos(videos[VIDEO.key]))
    creators = con.con.sql(queries.creators).to_arrow_table()
    yield CREATOR, rounded(CREATOR, creators, vectors.of_creators(creators[CREATOR.key]))


def _current(lake: Lake, view: ViewSpec) -> list[datetime]:
    """Snapshots that have all of a view's features; none of a table that was made for others."""
    if lake.version(view.table) < 0 or not set(view.names) <= set(lake.scan(view.table).schema.names):
        return []
    return snapshots(lake, view.name)


def _write(lake: Lake, view: ViewSpec, table: pa.Table, at: datetime) -> int:
    """Replace one snapshot, or the whole table when it has other features; says how many rows it has."""
    stamp = pa.array([at], pa.timestamp("us", "UTC"))
    table = table.append_column(TIMESTAMP, stamp.take(pa.array([0] * len(table), pa.int8())))
    table = table.append_column(SNAPSHOT, pa.array([snapshot_name(at)] * len(table), pa.string()))
    fits = bool(_current(lake, view))
    where = f"{SNAPSHOT} = '{snapshot_name(at)}'" if fits else None
    lake.overwrite(view.table, table, partition_by=[SNAPSHOT], where=where)
    return int(table.num_rows)

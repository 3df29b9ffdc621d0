"""What came of each video that was shown or engaged with: events folded into one row per occasion.

An occasion is a user and a video within one request; without a request_id within one session; without
either within one UTC day. What happens before 06:00 belongs to the evening before (from 18:00) when the
same occasion began there, so that midnight parts no impression from its watch; else each day stands alone,
and a day can be computed from the events of its own and both neighbouring days.

One Ibis expression, so DuckDB and Spark compute the same.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from upnext.contracts import EVENTS, UtcTime
from upnext.ports import Lake

FOLD_ROWS = 500_000
"""Events folded at once, but never less than a day's."""

OUTCOMES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("request_id", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("timestamp", UtcTime, nullable=False),  # first event
        pa.field("engaged_at", UtcTime, nullable=False),  # last event
        pa.field("surface", pa.string()),  # this to propensity: of the impression, else of the first event
        pa.field("position", pa.int32()),
        pa.field("device", pa.string()),
        pa.field("region", pa.string()),
        pa.field("propensity", pa.float32()),
        pa.field("shown", pa.bool_()),  # an impression is known
        pa.field("clicked", pa.bool_()),
        pa.field("liked", pa.bool_()),
        pa.field("shared", pa.bool_()),
        pa.field("not_interested", pa.bool_()),
        pa.field("watched", pa.bool_()),
        pa.field("watch_ms", pa.int64()),  # sum of the occasion; null: not watched, or for unknown time
        pa.field("duration_ms", pa.int64()),
        pa.field("watch_fraction", pa.float32()),  # of the duration, 0 to 1; unknown but watched: 1
        pa.field("events", pa.int64()),  # how many were folded
        pa.field("date", pa.string(), nullable=False),  # UTC day, YYYY-MM-DD
    ]
)
"""Columns of the lake's ``outcomes`` table, partitioned by date."""

_FLAGS = {
    "shown": "impression",
    "clicked": "click",
    "liked": "like",
    "shared": "share",
    "not_interested": "not_interested",
    "watched": "watch",
}
_KEY = ["user_id", "video_id", "occasion", "date"]


def outcomes(events: ir.Table, videos: ir.Table) -> ir.Table:
    """Fold events (EVENTS and ``date``) over videos (video_id, duration_ms) into OUTCOMES, unordered.

    Integers are summed and ties are broken by event_id, so the result does not depend on the order of rows.
    """
    acts = _with_days(events.filter(events.event_type != "search", events.video_id.notnull()))
    folded = _fold(acts).left_join(videos.select("video_id", "duration_ms"), "video_id")
    return folded.mutate(watch_fraction=_fraction(folded)).select(OUTCOMES.names)


def _with_days(events: ir.Table) -> ir.Table:
    """Events with their occasion, and as ``date`` the day on which it began."""
    known = ibis.coalesce("r" + events.request_id, "s" + events.session_id)
    hour = events.timestamp.hour()
    t = events.mutate(
        occasion=known.fill_null("day"),
        of_morning=(hour < 6).ifelse(known, ibis.null("string")),
        of_evening=(hour >= 18).ifelse(known, ibis.null("string")),
    )
    evenings = t.filter(t.of_evening.notnull()).select(
        "user_id",
        "video_id",
        of_morning="of_evening",
        began="date",
        date=(t.date.cast("date") + ibis.interval(days=1)).strftime("%Y-%m-%d"),
    )
    joined = t.left_join(evenings.distinct(), ["user_id", "video_id", "of_morning", "date"])
    return joined.mutate(date=ibis.coalesce(joined.began, joined.date)).select(*events.columns, "occasion")


def _fold(acts: ir.Table) -> ir.Table:
    """One row per occasion; where it was shown is taken from the first impression, else the first event."""
    impression = acts.event_type == "impression"
    order = [impression.ifelse(0, 1), acts.timestamp, acts.event_id]
    window = ibis.window(group_by=[acts[name] for name in _KEY], order_by=order)
    t = acts.mutate(first=ibis.row_number().over(window) == 0)

    def shown_in(column: str) -> ir.Column:
        return ibis.coalesce(t[column].max(where=t.first), t[column].min())

    of_watch = t.event_type == "watch"
    return t.group_by(_KEY).agg(
        request_id=t.request_id.min(),
        timestamp=t.timestamp.min(),
        engaged_at=t.timestamp.max(),
        **{name: shown_in(name) for name in ("session_id", "surface", "position", "device", "region")},
        propensity=t.propensity.max(where=t.first),
        watch_ms=t.watch_duration_ms.sum(where=of_watch).cast("int64"),
        events=t.count(),
        **{name: (t.event_type == kind).any() for name, kind in _FLAGS.items()},
    )


def _fraction(t: ir.Table) -> ir.Column:
    """Share of the video that was watched, float32 in [0, 1]."""
    known = (t.watch_ms.cast("float64") / t.duration_ms.nullif(0)).clip(0.0, 1.0)
    return ibis.cases((~t.watched, 0.0), (t.watch_ms == 0, 0.0), else_=known.fill_null(1.0)).cast("float32")


def recompute(lake: Lake, touched: set[str]) -> tuple[int, int]:
    """Bring the lake's outcomes up to date after new events on the days touched: (rows, days) written.

    Where an earlier run was cut short between events and outcomes, all days are computed.
    """
    days = _days(lake)
    rows = written = 0
    stale = sorted(day for day in days if any(near in touched for near in _around([day])))
    for attempt in (stale, sorted(days)):
        for group in _by_size(attempt, days):
            rows += _recompute(lake, group)
        written += len(attempt)
        if _folded(lake) == sum(days.values()):
            break
    return rows, written


def _recompute(lake: Lake, days: list[str]) -> int:
    """Replace the outcomes of some days."""
    columns = [name for name in EVENTS.names if name != "query"] + ["date"]
    inside = ds.field("date").isin(_around(days))
    events = ibis.memtable(lake.scan("events").to_table(columns=columns, filter=inside))
    videos = ibis.memtable(lake.read("videos", ["video_id", "duration_ms"]))
    folded = outcomes(events, videos)
    engine = ibis.duckdb.connect()
    table = engine.to_pyarrow(
        folded.filter(folded.date.isin(days)).order_by(["date", "timestamp", *_KEY[:2]])
    )
    listed = ", ".join(f"'{day}'" for day in days)
    lake.overwrite("outcomes", table.cast(OUTCOMES), ["date"], where=f"date IN ({listed})")
    return int(table.num_rows)


def _days(lake: Lake) -> dict[str, int]:
    """Events to fold by day."""
    counts: Counter[str] = Counter()
    wanted = (ds.field("event_type") != "search") & ds.field("video_id").is_valid()
    for batch in lake.scan("events").to_batches(columns=["date"], filter=wanted):
        for pair in pc.value_counts(batch["date"]).to_pylist():
            counts[pair["values"]] += pair["counts"]
    return dict(counts)


def _folded(lake: Lake) -> int:
    """Events that the outcomes in the lake stand for."""
    if lake.version("outcomes") < 0:
        return 0
    return int(pc.sum(lake.read("outcomes", ["events"])["events"], min_count=0).as_py())


def _around(days: Iterable[str]) -> set[str]:
    """Days, and those before and after each."""
    return {str(date.fromisoformat(day) + timedelta(days=step)) for day in days for step in (-1, 0, 1)}


def _by_size(days: list[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Days in runs of at most FOLD_ROWS events, or of one day."""
    group: list[str] = []
    for day in days:
        if group and sum(sizes[other] for other in [*group, day]) > FOLD_ROWS:
            yield group
            group = []
        group.append(day)
    if group:
        yield group

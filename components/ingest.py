"""From a source to the lake: catalogue and users brought up to date, new events added, outcomes recomputed.

A row that is there already is not written again, so a second run on the same source changes nothing, not
even a table's version. Memory is bounded by FLUSH_ROWS, whatever the source's size.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from components.outcomes import recompute
from components.quality.rows import put_away, too_long
from components.tables import not_in, query
from upnext.contracts import UtcTime
from upnext.erased import NOBODY, Erased
from upnext.errors import EmptyData
from upnext.ports import Lake
from upnext.sources.base import Resumable, Simulated, Source
from upnext.sources.checks import Checked, Name, part, split

FLUSH_ROWS = 300_000
"""Rows gathered before they are written; larger means fewer files and more memory."""
AHEAD = timedelta(days=1)
"""How far a clock may run ahead of ours before an event counts as from the future."""
_KEY: dict[Name, str] = {"events": "event_id", "videos": "video_id", "users": "user_id"}


@dataclass
class Counts:
    """What an ingest did, in rows."""

    events_read: int = 0
    """Good rows, of which each is new, repeated or later."""
    events_new: int = 0
    events_repeated: int = 0
    events_later: int = 0
    """Not before the interval's end: left for the next one."""
    videos_read: int = 0
    videos_changed: int = 0
    """Inserted or replaced."""
    videos_by_id_only: int = 0
    """Not in the catalogue, and added because an event names them."""
    users_read: int = 0
    users_changed: int = 0
    users_by_id_only: int = 0
    quarantined: int = 0
    outcomes: int = 0
    """Rows computed anew."""
    days: int = 0
    """Days whose outcomes were computed anew."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Quarantined rows by ``table: reason``."""


Progress = Callable[[int], None]


def ingest(
    source: Source,
    lake: Lake,
    until: datetime | None = None,
    *,
    name: str = "",
    erased: Callable[[], Erased] = lambda: NOBODY,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Bring what is new in a source, and happened before ``until``, into the lake; says what was done.

    name: how the quarantine calls the source.
    erased: asked for each batch, since a long run outlasts an erasure: whose rows from before it stay out.
    progress: called with the number of event rows read so far.
    Writes the Delta tables videos, users, events, quarantine and outcomes. EmptyData when afterwards the
    lake holds no event. Returns the fields of :class:`Counts`.
    """
    latest = None if isinstance(source, Simulated) else datetime.now(UTC) + AHEAD
    intake = _Intake(lake, name or source.dataset, latest)
    counts = intake.counts
    for videos in intake.good(source.videos(), "videos"):
        counts.videos_read += len(videos)
        counts.videos_changed += _upsert(lake, "videos", videos)
    for told in intake.good(source.users(), "users"):
        users = erased().without(told, "created_at")
        counts.users_read += len(users)
        counts.users_changed += _upsert(lake, "users", users)
    for told in intake.good(source.events(), "events"):
        events = erased().without(told, "timestamp")
        intake.add(events, until)
        if progress:
            progress(counts.events_read)
    if lake.version("events") < 0:
        raise EmptyData(intake.why_empty(until))
    counts.outcomes, counts.days = recompute(lake, intake.days)
    if isinstance(source, Resumable):
        source.commit(until)
    return asdict(counts)


class _Intake:
    """The lake's side of one run, with what it has to remember on the way."""

    def __init__(self, lake: Lake, name: str, latest: datetime | None) -> None:
        self.lake = lake
        self.name = name
        self.latest = latest
        """Time after which an event is refused as being from the future; None: there is none."""
        self.counts = Counts()
        self.days: set[str] = set()
        """Days with new events."""

    def good(self, tables: Iterable[pa.Table | pa.RecordBatch], name: Name) -> Iterator[pa.Table]:
        """Rows that keep the contract, some FLUSH_ROWS at a time; the others go to the quarantine."""
        parts: list[Checked] = []
        for table in tables:
            parts.append(split(table, name, self.name, self.latest))
            if sum(len(each.good) + len(each.refused) for each in parts) >= FLUSH_ROWS:
                yield self._flush(parts)
                parts = []
        if parts:
            yield self._flush(parts)

    def _flush(self, parts: list[Checked]) -> pa.Table:
        refused = pa.concat_tables([each.refused for each in parts])
        self._quarantine(refused)
        return pa.concat_tables([each.good for each in parts])

    def _quarantine(self, refused: pa.Table) -> None:
        self.counts.quarantined += len(refused)
        labels = pc.binary_join_element_wise(refused["table"], refused["reason"], ": ")
        for pair in pc.value_counts(labels).to_pylist():
            reasons = self.counts.reasons
            reasons[pair["values"]] = reasons.get(pair["values"], 0) + pair["counts"]
        put_away(self.lake, refused)

    def add(self, events: pa.Table, until: datetime | None) -> None:
        """Append the events before ``until`` whose id their day does not hold yet."""
        events = self._believable(events)
        self.counts.events_read += len(events)
        if until is not None:
            inside = events.filter(pc.less(events["timestamp"], pa.scalar(until, UtcTime)))
            self.counts.events_later += len(events) - len(inside)
            events = inside
        events = events.append_column("date", days_of(events["timestamp"]))
        new = of_new_keys(self.lake, "events", events, ["event_id"])
        self.counts.events_new += len(new)
        self.counts.events_repeated += len(events) - len(new)
        if not len(new):
            return
        self.counts.videos_by_id_only += self._describe("videos", new["video_id"].drop_null().unique())
        self.counts.users_by_id_only += self._describe("users", new["user_id"].unique())
        self.lake.append("events", new, ["date"])
        self.days.update(new["date"].unique().to_pylist())

    def _believable(self, events: pa.Table) -> pa.Table:
        """Events that the catalogue does not contradict; the others go to the quarantine."""
        if self.lake.version("videos") < 0:
            return events
        videos = self.lake.read("videos", ["video_id", "duration_ms"])
        checked = part(events, [too_long(videos)], "events", self.name)
        self._quarantine(checked.refused)
        return checked.good

    def _describe(self, name: Name, ids: pa.Array) -> int:
        """Add the videos or users that events name and nobody described, by their id alone."""
        if self.lake.version(name) >= 0:
            known = self.lake.read(name, [_KEY[name]])[_KEY[name]].combine_chunks()
            ids = ids.filter(pc.invert(pc.is_in(ids, value_set=known)))
        return _upsert(self.lake, name, split(pa.table({_KEY[name]: ids}), name, self.name).good)

    def why_empty(self, until: datetime | None) -> str:
        refused = ", ".join(f"{count} × {reason}" for reason, count in self.counts.reasons.items())
        return (
            f"{self.name} has no event to work on: of {self.counts.events_read} good ones "
            f"{self.counts.events_later} are not before {until}; refused: {refused or 'none'}"
        )


def of_new_keys(lake: Lake, table: str, rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """The first row of each key that a table of the lake does not have on the same days (column ``date``)."""
    keys = rows.select(list(key)).append_column("place", pa.array(np.arange(len(rows))))
    held = keys.slice(0, 0).select(list(key))
    if lake.version(table) >= 0:
        of_days = ds.field("date").isin(rows["date"].unique())
        held = lake.scan(table).to_table(columns=list(key), filter=of_days)
    names = ", ".join(key)
    new = query(
        f"SELECT min(place) AS place FROM keys ANTI JOIN held USING ({names}) GROUP BY {names}",  # noqa: S608
        keys=keys,
        held=held,
    )
    return rows.take(new["place"].sort())


def _upsert(lake: Lake, name: Name, rows: pa.Table) -> int:
    """Insert new rows of videos or users and replace those that differ; says how many."""
    changed = not_in(lake, name, rows)
    if not len(changed):
        return 0
    wanted = pc.is_in(rows[_KEY[name]], value_set=changed[_KEY[name]].combine_chunks())
    inserted, updated = lake.merge(name, rows.filter(wanted), [_KEY[name]], update=True)
    return inserted + updated


def days_of(times: pa.ChunkedArray) -> pa.Array:
    """UTC days of times as YYYY-MM-DD. Each day is formatted once: each time would take ten times as long."""
    encoded = times.cast(pa.date32()).combine_chunks().dictionary_encode()
    return encoded.dictionary.cast(pa.string()).take(encoded.indices)

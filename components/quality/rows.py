"""Rules that a row can only be held against once the lake is known; rows that break one are quarantined.

``ingest`` applies them before it writes; ``validate`` sweeps what lies in the lake already, however it came
there: a file written by another program, a catalogue that was corrected since.
"""

from collections import Counter
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from components.outcomes import recompute
from components.tables import not_in
from upnext.contracts import QUARANTINE, EventType
from upnext.ports import Lake
from upnext.sources.checks import Rule, part

MOST_REPEATS = 100
"""Times a video's length that one watch may last: short ones are looped, but not for hours unattended."""


def too_long(videos: pa.Table) -> Rule:
    """A watch of many times the video's length, where that is known; videos: video_id, duration_ms."""
    ids, lengths = videos["video_id"].combine_chunks(), videos["duration_ms"].combine_chunks()

    def broken(events: pa.Table) -> pa.ChunkedArray:
        length = lengths.take(pc.index_in(events["video_id"], value_set=ids).combine_chunks())
        return pc.greater(events["watch_duration_ms"], pc.multiply(length, MOST_REPEATS))

    return Rule(f"watch_duration_ms is more than {MOST_REPEATS} times the video's length", broken)


def lake_rules(videos: pa.Table) -> list[Rule]:
    """What no event of the lake may break."""
    kinds = pa.array([kind.value for kind in EventType])
    return [
        Rule("user_id is missing", lambda events: events["user_id"].is_null()),
        Rule(
            f"event_type is none of {', '.join(kinds.to_pylist())}",
            lambda events: pc.invert(pc.is_in(events["event_type"], value_set=kinds)),
        ),
        Rule("timestamp is outside its partition", _misplaced),
        Rule("watch_duration_ms is negative", lambda events: pc.less(events["watch_duration_ms"], 0)),
        too_long(videos),
    ]


def sweep(lake: Lake, source: str, since: date | None = None) -> Counter[str]:
    """Move events that break a rule from the lake into the quarantine, and recompute the outcomes concerned.

    since: the first partition to look at; None looks at all. Returns the rows moved, by reason. Memory is
    bounded by a day's events. Rows reach the quarantine before they leave the table, so that a run cut
    short in between loses none.
    """
    rules = lake_rules(lake.read("videos", ["video_id", "duration_ms"]))
    moved: Counter[str] = Counter()
    days: set[str] = set()
    for day in _days(lake, since):
        checked = part(lake.scan("events").to_table(filter=ds.field("date") == day), rules, "events", source)
        if len(checked.refused):
            put_away(lake, checked.refused)
            _replace(lake, day, checked.good)
            moved.update(checked.refused["reason"].to_pylist())
            days.add(day)
    if days:
        lake.delete("outcomes", f"date IN ({', '.join(repr(day) for day in sorted(days))})")
        recompute(lake, days)
    return moved


def put_away(lake: Lake, refused: pa.Table) -> None:
    """Append to the quarantine the rows that it does not hold yet."""
    if not len(refused):
        return  # the quarantine is read whole
    new = not_in(lake, "quarantine", refused)
    if len(new):
        lake.append("quarantine", new.cast(QUARANTINE))


def _days(lake: Lake, since: date | None) -> list[str]:
    """Partitions of the events, from one on."""
    return [day for day in lake.partitions("events", "date") if since is None or day >= str(since)]


def _replace(lake: Lake, day: str, events: pa.Table) -> None:
    where = f"date = '{day}'"
    if len(events):
        lake.overwrite("events", events, ["date"], where=where)
    else:
        lake.delete("events", where)


def _misplaced(events: pa.Table) -> pa.Array:
    """Whether an event lies in another day's partition than its time's."""
    day = pc.cast(events["timestamp"], pa.date32()).cast(pa.string())
    return pc.not_equal(day, events["date"])

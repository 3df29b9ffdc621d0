"""Rows that break a rule leave for the quarantine with their reason, and what was made of them goes too."""

import json
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from components.outcomes import recompute
from components.quality.rows import MOST_REPEATS, put_away, sweep
from upnext.contracts import EVENTS, QUARANTINE, VIDEOS
from upnext.ports import Lake
from upnext.settings import Settings
from upnext.stores import connect

T = datetime(2026, 6, 1, 12, tzinfo=UTC)
LENGTH = 10_000
TOO_LONG = f"watch_duration_ms is more than {MOST_REPEATS} times the video's length"
UNKNOWN = "event_type is none of impression, click, watch, like, share, not_interested, search"
MISPLACED = "timestamp is outside its partition"


def event(name: str, day: int = 1, **known: object) -> dict[str, object]:
    at = T.replace(day=day)
    row = {"event_id": name, "user_id": "u", "event_type": "watch", "video_id": "v", "timestamp": at}
    row |= {"watch_duration_ms": 5_000, "session_id": name, "date": f"{at:%Y-%m-%d}"}
    return {**dict.fromkeys(EVENTS.names), **row, **known}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake that another program wrote to: two good events, one a day, and four that break a rule."""
    lake = connect(Settings(home=tmp_path)).lake
    videos = [{**dict.fromkeys(VIDEOS.names), "video_id": "v", "duration_ms": LENGTH}]
    videos.append({**dict.fromkeys(VIDEOS.names), "video_id": "of unknown length"})
    lake.append("videos", pa.Table.from_pylist(videos, VIDEOS))
    rows = [
        event("good"),
        event("looped", watch_duration_ms=LENGTH * MOST_REPEATS),
        event("unknown length", 2, video_id="of unknown length", watch_duration_ms=80_000_000),
        event("too long", 2, watch_duration_ms=LENGTH * MOST_REPEATS + 1),
        event("applause", 2, event_type="applause"),
        event("negative", watch_duration_ms=-1),
        event("misplaced", date="2026-05-01"),
    ]
    schema = EVENTS.append(pa.field("date", pa.string()))
    lake.append("events", pa.Table.from_pylist(rows, schema), ["date"])
    recompute(lake, {"2026-06-01", "2026-06-02", "2026-05-01"})
    return lake


def ids(lake: Lake) -> set[str]:
    return set(lake.read("events", ["event_id"])["event_id"].to_pylist())


def test_rows_at_fault_are_moved_with_their_reason(lake: Lake) -> None:
    moved = sweep(lake, "files:elsewhere")
    reasons = {TOO_LONG: "too long", UNKNOWN: "applause", MISPLACED: "misplaced"}
    reasons["watch_duration_ms is negative"] = "negative"
    assert moved == Counter(dict.fromkeys(reasons, 1))
    kept = lake.read("quarantine").to_pylist()
    assert {row["reason"]: json.loads(row["row"])["event_id"] for row in kept} == reasons
    assert {(row["table"], row["source"]) for row in kept} == {("events", "files:elsewhere")}
    assert ids(lake) == {"good", "looped", "unknown length"}


def test_outcomes_are_what_the_remaining_events_give(lake: Lake) -> None:
    assert set(lake.read("outcomes")["date"].to_pylist()) == {"2026-05-01", "2026-06-01", "2026-06-02"}
    sweep(lake, "x")
    found = lake.read("outcomes", ["date", "session_id", "events"]).to_pylist()
    assert {(row["date"], row["session_id"]) for row in found} == {
        ("2026-06-01", "good"),
        ("2026-06-01", "looped"),
        ("2026-06-02", "unknown length"),
    }


def test_a_second_sweep_finds_nothing_and_writes_nothing(lake: Lake) -> None:
    sweep(lake, "x")
    versions = {table: lake.version(table) for table in lake.tables()}
    assert sweep(lake, "x").total() == 0
    assert {table: lake.version(table) for table in lake.tables()} == versions


def test_the_quarantine_is_not_read_for_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(lake, "x")
    monkeypatch.setattr(type(lake), "scan", lambda *_: pytest.fail("read"))
    put_away(lake, QUARANTINE.empty_table())


def test_days_before_the_first_to_look_at_stay_as_they_are(lake: Lake) -> None:
    assert set(sweep(lake, "x", since=date(2026, 6, 2))) == {TOO_LONG, UNKNOWN}
    assert {"misplaced", "negative"} <= ids(lake)

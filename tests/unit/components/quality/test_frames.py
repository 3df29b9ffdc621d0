"""The frames of the suites, on a lake small enough to count by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.quality import frames
from components.quality.limits import contract_columns
from upnext.contracts import EVENTS, Event, EventType
from upnext.ports import Lake
from upnext.settings import Settings
from upnext.stores import connect

UNTIL = datetime(2026, 6, 15, 6, tzinfo=UTC)


def event(name: str, ago: timedelta) -> dict[str, object]:
    at = UNTIL - ago
    row = {"event_id": name, "user_id": "u", "event_type": "click", "video_id": "v", "timestamp": at}
    return {**dict.fromkeys(EVENTS.names), **row, "date": f"{at:%Y-%m-%d}"}


def lake(home: Path, rows: list[dict[str, object]]) -> Lake:
    found = connect(Settings(home=home)).lake
    schema = EVENTS.append(pa.field("date", pa.string()))
    found.append("events", pa.Table.from_pylist(rows, schema), ["date"])
    return found


def hours(*ago: float) -> list[dict[str, object]]:
    return [event(f"e{place}", timedelta(hours=each)) for place, each in enumerate(ago)]


def test_events_are_counted_against_the_same_day_a_week_before(tmp_path: Path) -> None:
    week = 7 * 24
    rows = hours(2, 3, 24, 24.5, week, week + 24, week + 25, week + 48)
    row = frames._events_row(lake(tmp_path, rows), UNTIL)
    assert row == {
        "table": "events",
        "rows": 8,
        "repeated_keys": 0,
        "age_h": 2.0,
        # 2, 3 and 24 hours ago; week + 24 hours ago alone, as week itself is a week before now.
        "volume": 3.0,
    }


def test_a_log_that_does_not_reach_back_so_far_has_no_volume(tmp_path: Path) -> None:
    row = frames._events_row(lake(tmp_path, hours(1, 2, 7 * 24 + 1)), UNTIL)
    assert np.isnan(row["volume"])


def test_keys_that_come_twice_are_counted(tmp_path: Path) -> None:
    rows = [*hours(1, 2), event("e0", timedelta(hours=5))]
    assert frames._events_row(lake(tmp_path, rows), UNTIL)["repeated_keys"] == 1


def test_the_sample_is_of_the_window_and_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "SAMPLE", 5)
    found = lake(
        tmp_path, [*hours(*range(1, 40)), event("later", timedelta(0)), event("old", timedelta(days=9))]
    )
    once, again = (frames.events_frame(found, UNTIL, UNTIL - frames.WINDOW) for _ in range(2))
    assert once.equals(again)
    assert len(once) == 5
    assert not {"later", "old"} & set(once["event_id"])
    assert str(once["timestamp"].dtype) == "datetime64[us]"


def test_bounds_are_read_off_the_contract() -> None:
    found = contract_columns(Event)
    assert (found["watch_duration_ms"].low, found["watch_duration_ms"].high) == (0, 86_400_000)
    assert (found["user_id"].shortest, found["user_id"].longest) == (1, 128)
    assert found["event_type"].values == tuple(kind.value for kind in EventType)
    assert found["propensity"].high == 1

"""The contract's rules over whole tables: each fault by its reason, and never a row lost."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from upnext.contracts import EVENTS, QUARANTINE, USERS, VIDEOS, Event, Video
from upnext.sources.checks import split

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EVENT = {"event_id": "e", "user_id": "u", "event_type": "click", "video_id": "v", "timestamp": NOW}
VIDEO = {"video_id": "v", "title": "A film"}

ODD_TAG = "tags has an entry that is empty, longer than 64 characters or has a NUL character"

EVENT_FAULTS = [
    ({"user_id": None}, "user_id is missing"),
    ({"user_id": ""}, "user_id is missing"),
    ({"user_id": "u" * 129}, "user_id is longer than 128 characters"),
    ({"event_type": "dance"}, "event_type is none of impression, click, watch"),
    ({"event_type": None}, "event_type is missing"),
    ({"video_id": None}, "video_id is missing: only a search has none"),
    ({"event_type": "search"}, "query is missing: a search carries what was searched for"),
    ({"query": "q" * 501}, "query is longer than 500 characters"),
    ({"timestamp": None}, "timestamp is missing"),
    ({"timestamp": "soon"}, "timestamp is not a time"),
    ({"timestamp": "2026-02-30T00:00:00Z"}, "timestamp is not a time"),
    ({"timestamp": "0"}, "timestamp is before 1990"),
    ({"timestamp": NOW + timedelta(days=7)}, "timestamp is in the future"),
    ({"watch_duration_ms": -1}, "watch_duration_ms is negative"),
    ({"watch_duration_ms": 86_400_001}, "watch_duration_ms is more than a day"),
    ({"watch_duration_ms": "long"}, "watch_duration_ms is not a whole number"),
    ({"watch_duration_ms": "12.5"}, "watch_duration_ms is not a whole number"),
    ({"watch_duration_ms": "9" * 20}, "watch_duration_ms is not a whole number"),
    ({"position": -1}, "position is negative"),
    ({"position": 10_001}, "position is above 10000"),
    ({"propensity": 0.0}, "propensity is not above 0"),
    ({"propensity": 1.5}, "propensity is above 1"),
    ({"propensity": "often"}, "propensity is not a number"),
    ({"surface": "s" * 65}, "surface is longer than 64 characters"),
    ({"user_id": "u\0"}, "user_id has a NUL character"),
]
VIDEO_FAULTS = [
    ({"video_id": None}, "video_id is missing"),
    ({"status": "gone"}, "status is none of active, blocked, deleted"),
    ({"duration_ms": 0}, "duration_ms is not above 0"),
    ({"title": "t" * 501}, "title is longer than 500 characters"),
    ({"tags": ["a", "b" * 65]}, ODD_TAG),
    ({"tags": ["a", ""]}, ODD_TAG),
    ({"tags": ["a", "b\0"]}, ODD_TAG),
    ({"title": "\0"}, "title has a NUL character"),
    ({"tags": ["a"] * 101}, "tags has more than 100 entries"),
    ({"tags": "[1, {"}, "tags is not a list of texts"),
    ({"age_restricted": "perhaps"}, "age_restricted is not true or false"),
]


@pytest.mark.parametrize(("fault", "reason"), EVENT_FAULTS)
def test_events_that_break_the_contract_are_refused(fault: dict, reason: str) -> None:
    checked = split(pa.Table.from_pylist([EVENT | fault]), "events", "here", latest=NOW)
    (refused,) = checked.refused.to_pylist()
    assert refused["reason"].startswith(reason)
    assert (refused["table"], refused["source"], len(checked.good)) == ("events", "here", 0)
    assert json.loads(refused["row"])["event_id"] == "e"


@pytest.mark.parametrize(("fault", "reason"), VIDEO_FAULTS)
def test_videos_that_break_the_contract_are_refused(fault: dict, reason: str) -> None:
    checked = split(pa.Table.from_pylist([VIDEO | fault]), "videos", "here")
    assert [row["reason"] for row in checked.refused.to_pylist()] == [reason]


def test_good_rows_stay_in_order_and_bad_ones_do_not_take_them_along() -> None:
    rows = [EVENT | {"event_id": str(i), "position": i - 1} for i in range(3)]
    checked = split(pa.Table.from_pylist(rows), "events", "here")
    assert checked.good["event_id"].to_pylist() == ["1", "2"]
    assert checked.refused.num_rows == 1


def test_a_clean_table_comes_back_as_it_was() -> None:
    rows = [EVENT | {"event_type": "watch", "watch_duration_ms": 5, "propensity": 0.5}]
    table = pa.Table.from_pylist(rows, schema=EVENTS)
    checked = split(table, "events", "here")
    assert checked.good.equals(table)
    assert checked.refused.equals(QUARANTINE.empty_table())


def test_defaults_are_filled_in_and_other_columns_dropped() -> None:
    video = split(pa.table({"video_id": ["v"], "colour": ["red"]}), "videos", "here").good
    user = split(pa.table({"user_id": ["u"]}), "users", "here").good
    assert (video.schema, user.schema) == (VIDEOS, USERS)
    assert (
        video.to_pylist()[0] | {"title": "", "tags": [], "status": "active", "age_restricted": False}
        == (video.to_pylist()[0])
    )
    assert (user["topics"].to_pylist(), user["segments"].to_pylist()) == ([[]], [[]])


def test_quarantined_rows_of_a_reader_pass_through() -> None:
    table = pa.table([["events"], ["broken line"], ["{}"], ["file"]], schema=QUARANTINE)
    checked = split(table, "events", "here")
    assert checked.refused.equals(table) and not len(checked.good)


def test_events_without_an_id_get_one_from_their_content() -> None:
    rows = [{key: EVENT[key] for key in EVENT if key != "event_id"} for _ in range(2)]
    rows[1]["video_id"] = "w"
    ids = split(pa.Table.from_pylist([*rows, rows[0]]), "events", "here").good["event_id"].to_pylist()
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_780_272_000]),  # seconds
        pa.array([1_780_272_000_000.0, None]),  # milliseconds, as pandas writes integers with gaps
        pa.array(["1780272000000000"]),  # microseconds in a CSV
        pa.array([datetime(2026, 6, 1)], pa.timestamp("ns")),
        pa.array(["2026-06-01"]),
        pa.array(["2026-06-01T02:00:00+02:00"]),
        pa.array([datetime(2026, 6, 1).date()]),
    ],
)
def test_times_of_many_kinds_are_the_same_time(column: pa.Array) -> None:
    table = pa.table({"video_id": ["v"] * len(column), "uploaded_at": column})
    checked = split(table, "videos", "here")
    assert checked.good["uploaded_at"][0].as_py() == NOW
    assert not len(checked.refused)


def test_ids_may_be_numbers_or_dictionaries() -> None:
    texts = pa.array(["7"])
    for column in (pa.array([7]), pa.array([7.0]), texts.dictionary_encode(), texts.cast("large_string")):
        assert split(pa.table({"user_id": column}), "users", "here").good["user_id"].to_pylist() == ["7"]


KNOWN = ["click", "watch", "search", "v", "2026-01-01T00:00:00Z", "-5", "7"]
CELLS = st.none() | st.text(max_size=5) | st.sampled_from(KNOWN)
RAW = st.fixed_dictionaries(dict.fromkeys(EVENTS.names, CELLS))


@settings(max_examples=50, deadline=None)
@given(st.lists(RAW, min_size=1, max_size=12))
def test_no_row_is_ever_lost(rows: list[dict]) -> None:
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in EVENTS.names]))
    checked = split(table, "events", "wild")
    assert len(checked.good) + len(checked.refused) == len(rows)
    assert checked.good.schema == EVENTS
    assert checked.refused.schema == QUARANTINE
    assert not checked.good["event_id"].null_count
    assert all(json.loads(row) in rows for row in checked.refused["row"].to_pylist())


@settings(max_examples=50, deadline=None)
@given(st.lists(RAW, min_size=1, max_size=12))
def test_what_passes_here_passes_at_the_api_too(rows: list[dict]) -> None:
    """But for a watch of unknown time, which only a log from elsewhere may have."""
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in EVENTS.names]))
    for row in split(table, "events", "wild").good.to_pylist():
        if row["event_type"] == "watch" and row["watch_duration_ms"] is None:
            row["watch_duration_ms"] = 0
        Event(**row)


def test_both_judge_a_video_alike() -> None:
    for fault, _ in VIDEO_FAULTS[1:7]:
        with pytest.raises(ValidationError):
            Video(**VIDEO | fault)

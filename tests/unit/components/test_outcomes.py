"""Outcomes against a count by hand in plain Python, and by hand where days meet."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.outcomes import OUTCOMES, outcomes
from upnext.contracts import EVENTS, VIDEOS

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
EMPTY = dict.fromkeys(EVENTS.names)
DATED = EVENTS.append(pa.field("date", pa.string()))
DURATIONS = {"v1": 10_000, "v2": None}


def event(kind: str, at: datetime = NOON, **fields: object) -> dict:
    row = EMPTY | {"event_type": kind, "user_id": "u", "video_id": "v1", "timestamp": at}
    row["event_id"] = f"{kind}-{at.isoformat()}-{sorted(fields.items())}"
    return row | {"date": at.strftime("%Y-%m-%d")} | fields


def fold(rows: list[dict]) -> list[dict]:
    videos = [{"video_id": name, "duration_ms": duration} for name, duration in DURATIONS.items()]
    expression = outcomes(
        ibis.memtable(pa.Table.from_pylist(rows, schema=DATED)),
        ibis.memtable(pa.Table.from_pylist(videos, schema=VIDEOS)),
    )
    table = ibis.duckdb.connect().to_pyarrow(expression.order_by("timestamp", "user_id", "video_id", "date"))
    return table.cast(OUTCOMES).to_pylist()


def test_one_request_is_one_row_by_hand() -> None:
    at = {"request_id": "r", "surface": "home", "position": 4, "propensity": 0.25}
    rows = [
        event("watch", NOON + timedelta(seconds=9), request_id="r", watch_duration_ms=3_000, device="tv"),
        event("impression", NOON, **at),
        event("click", NOON + timedelta(seconds=1), request_id="r", surface="player"),
        event("watch", NOON + timedelta(seconds=5), request_id="r", watch_duration_ms=4_000),
        event("like", NOON + timedelta(seconds=6), request_id="r"),
    ]
    (row,) = fold(rows)
    assert row == {
        "user_id": "u",
        "video_id": "v1",
        "request_id": "r",
        "session_id": None,
        "timestamp": NOON,
        "engaged_at": NOON + timedelta(seconds=9),
        "surface": "home",
        "position": 4,
        "device": "tv",
        "region": None,
        "propensity": 0.25,
        "shown": True,
        "clicked": True,
        "liked": True,
        "shared": False,
        "not_interested": False,
        "watched": True,
        "watch_ms": 7_000,
        "duration_ms": 10_000,
        "watch_fraction": pytest.approx(0.7),
        "events": 5,
        "date": "2026-05-01",
    }


@pytest.mark.parametrize(
    ("video", "watched_ms", "expected"),
    [
        ("v1", 25_000, (25_000, 1.0)),  # watched again: no more than all of it
        ("v1", None, (None, 1.0)),  # watched, nobody knows how long
        ("v1", 0, (0, 0.0)),
        ("v2", 3_000, (3_000, 1.0)),  # no duration known
        ("v2", 0, (0, 0.0)),
    ],
)
def test_watch_fractions_by_hand(video: str, watched_ms: int | None, expected: tuple) -> None:
    (row,) = fold([event("watch", video_id=video, watch_duration_ms=watched_ms)])
    assert (row["watch_ms"], row["watch_fraction"]) == expected


def test_what_was_not_watched_has_no_watch_time() -> None:
    (row,) = fold([event("impression", watch_duration_ms=5_000)])
    assert (row["watch_ms"], row["watch_fraction"], row["watched"]) == (None, 0.0, False)


def test_occasions_are_requests_else_sessions_else_days() -> None:
    rows = [
        event("click", request_id="r1", session_id="s"),
        event("click", request_id="r2", session_id="s"),
        event("click", session_id="s"),
        event("like", session_id="s"),
        event("click", session_id="r1"),
        event("click"),
        event("like", NOON + timedelta(hours=11)),
        event("click", NOON + timedelta(hours=12)),
        event("click", user_id="w"),
        event("search", query="cats", video_id=None),
    ]
    assert sorted(row["events"] for row in fold(rows)) == [1, 1, 1, 1, 1, 2, 2]


def test_midnight_does_not_part_a_request() -> None:
    late, early = datetime(2026, 5, 1, 23, 59, tzinfo=UTC), datetime(2026, 5, 2, 0, 1, tzinfo=UTC)
    rows = [
        event("impression", late, request_id="r"),
        event("watch", early, request_id="r", watch_duration_ms=1_000),
        event("click", early, request_id="other"),
        event("click", early),  # a day's own
    ]
    found = [(row["date"], row["request_id"], row["events"], row["shown"]) for row in fold(rows)]
    assert sorted(found, key=str) == [
        ("2026-05-01", "r", 2, True),
        ("2026-05-02", "other", 1, False),
        ("2026-05-02", None, 1, False),
    ] or sorted(found, key=str) == [
        ("2026-05-01", "r", 2, True),
        ("2026-05-02", None, 1, False),
        ("2026-05-02", "other", 1, False),
    ]


def test_a_long_session_is_split_by_days() -> None:
    rows = [event("click", NOON + timedelta(hours=hours), session_id="s") for hours in (0, 20, 24)]
    assert [(row["date"], row["events"]) for row in fold(rows)] == [("2026-05-01", 1), ("2026-05-02", 2)]


def oracle(rows: list[dict]) -> dict[tuple, tuple]:
    """The definition once more, a row at a time."""
    evenings = {
        (row["user_id"], row["video_id"], row["session_id"], row["date"])
        for row in rows
        if row["session_id"] and row["timestamp"].hour >= 18
    }
    groups = defaultdict(list)
    for row in rows:
        before = str(row["timestamp"].date() - timedelta(days=1))
        key = (row["user_id"], row["video_id"], row["session_id"])
        joined = row["timestamp"].hour < 6 and (*key, before) in evenings
        groups[(*key, before if joined else row["date"])].append(row)
    return {key: summary(group) for key, group in groups.items()}


def summary(group: list[dict]) -> tuple:
    first = min(group, key=lambda row: (row["event_type"] != "impression", row["timestamp"], row["event_id"]))
    positions = [row["position"] for row in group if row["position"] is not None]
    watches = [row for row in group if row["event_type"] == "watch"]
    known = [row["watch_duration_ms"] for row in watches if row["watch_duration_ms"] is not None]
    return (
        min(row["timestamp"] for row in group),
        max(row["timestamp"] for row in group),
        first["position"] if first["position"] is not None else min(positions, default=None),
        any(row["event_type"] == "impression" for row in group),
        bool(watches),
        sum(known) if known else None,
        len(group),
    )


KINDS = st.sampled_from(["impression", "click", "watch", "like"])
WILD = st.builds(
    lambda kind, hours, user, video, session, ms, position, number: event(
        kind,
        NOON + timedelta(hours=hours),
        user_id=user,
        video_id=video,
        session_id=session,
        watch_duration_ms=ms,
        position=position,
        event_id=str(number),
    ),
    KINDS,
    st.integers(0, 60),
    st.sampled_from("ab"),
    st.sampled_from(["v1", "v2", "v3"]),
    st.sampled_from(["s", None]),
    st.none() | st.integers(0, 20_000),
    st.none() | st.integers(0, 9),
    st.integers(),
)


@settings(max_examples=10, deadline=None)
@given(st.lists(WILD, max_size=40), st.randoms(use_true_random=False))
def test_outcomes_are_what_a_loop_finds_in_any_order(rows: list[dict], random) -> None:
    found = fold(rows)
    assert {
        (row["user_id"], row["video_id"], row["session_id"], row["date"]): (
            row["timestamp"],
            row["engaged_at"],
            row["position"],
            row["shown"],
            row["watched"],
            row["watch_ms"],
            row["events"],
        )
        for row in found
    } == oracle(rows)
    random.shuffle(rows)
    assert sorted(map(str, fold(rows))) == sorted(map(str, found))

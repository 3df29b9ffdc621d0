"""Real-time features: the pure update by hand, and the log's and the server's values equal to it."""

from datetime import UTC, datetime
from math import log
from time import perf_counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.specs import STREAMS, USER_STREAM, VIDEO_STREAM, ViewSpec
from feature_repo.stream import StreamEvent, StreamState, update, values
from feature_repo.stream_log import StreamLog
from feature_repo.stream_state import LiveStream
from tests.support.videos import catalogue_of
from upnext.contracts import UtcTime
from upnext.times import MINUTE_US

NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000
KINDS = ("impression", "click", "watch", "like", "share", "not_interested", "search")
Log = list[tuple[int, StreamEvent]]


def folded(log: Log, entity: int, before: int) -> StreamState:
    state = StreamState()
    for who, event in log:
        if who == entity and event.ts < before:
            state = update(state, event)
    return state


def named(view: ViewSpec, row: np.ndarray) -> dict[str, float]:
    return dict(zip(view.names, row.tolist(), strict=True))


def at(minute: float) -> int:
    return NOON + int(minute * MINUTE_US)


def test_windows_by_hand() -> None:
    log_ = [
        (0, StreamEvent("impression", at(0))),
        (0, StreamEvent("watch", at(0.9), 30_000)),
        (0, StreamEvent("watch", at(4), 6_000)),
        (0, StreamEvent("like", at(4.2))),
    ]
    found = named(VIDEO_STREAM, values(VIDEO_STREAM, folded(log_, 0, at(4.9)), at(4.9)))
    assert found["impressions_5m"] == pytest.approx(log(2))
    assert found["watches_5m"] == pytest.approx(log(3))
    assert found["watch_s_5m"] == found["watch_s_1h"] == pytest.approx(log(37))
    later = named(
        VIDEO_STREAM, values(VIDEO_STREAM, folded(log_, 0, at(5)), at(5))
    )  # 12:00 has left 5 minutes
    assert (later["impressions_5m"], later["watches_5m"]) == (0, pytest.approx(log(2)))
    assert later["watches_1h"] == pytest.approx(log(3)) and later["likes_5m"] == pytest.approx(log(2))
    assert not values(VIDEO_STREAM, folded(log_, 0, at(65)), at(65)).any()


def test_a_sitting_by_hand() -> None:
    log_ = [
        (0, StreamEvent(kind, at(minute))) for kind, minute in (("click", 0), ("impression", 9), ("like", 29))
    ]
    found = named(USER_STREAM, values(USER_STREAM, folded(log_, 0, at(30)), at(32)))
    assert found["session_depth"] == pytest.approx(log(3))
    assert found["minutes_idle"] == pytest.approx(log(4))
    over = named(USER_STREAM, values(USER_STREAM, folded(log_, 0, at(99)), at(59)))
    assert over["session_depth"] == 0 and over["minutes_idle"] == pytest.approx(log(31))
    again = update(folded(log_, 0, at(99)), StreamEvent("watch", at(59)))
    assert again.depth == 1
    nothing = values(USER_STREAM, StreamState(), NOON)
    np.testing.assert_allclose(nothing, [feature.default for feature in USER_STREAM.features], rtol=1e-6)


events = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(KINDS),
        st.one_of(
            st.integers(0, 100 * MINUTE_US), st.integers(0, 100).map(lambda minute: minute * MINUTE_US)
        ),
        st.integers(0, 10**6),
    ),
    max_size=60,
)
times = st.lists(st.integers(0, 170 * MINUTE_US), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(STREAMS)), events, times)
def test_the_log_and_the_server_find_what_the_update_does(
    name: str, raw: list[tuple[int, str, int, int]], asked: list[int]
) -> None:
    view = STREAMS[name]
    log_ = [
        (who, StreamEvent(kind, NOON + ts, ms)) for who, kind, ts, ms in sorted(raw, key=lambda row: row[2])
    ]
    live, applied = LiveStream(view, capacity=2), 0
    found = StreamLog.of(view, table(log_), np.array([who for who, _ in log_], np.int64))
    for now in sorted(NOON + ts for ts in asked):
        due = [(who, event) for who, event in log_[applied:] if event.ts < now]
        for start in range(0, len(due), 7):
            part = due[start : start + 7]
            live.apply([str(who) for who, _ in part], [event for _, event in part], part[-1][1].ts)
        applied += len(due)
        wanted = np.stack([values(view, folded(log_, who, now), now) for who in range(5)])
        np.testing.assert_array_equal(found.features(np.arange(5), np.full(5, now)), wanted)
        np.testing.assert_array_equal(live.of([str(who) for who in range(5)], now), wanted)


def table(log_: Log) -> pa.Table:
    return pa.table(
        {
            "event_type": pa.array([event.kind for _, event in log_], pa.string()),
            "timestamp": pa.array([event.ts for _, event in log_], pa.int64()).cast(UtcTime),
            "watch_duration_ms": pa.array(
                [event.watch_ms if event.kind == "watch" else None for _, event in log_], pa.int64()
            ),
        }
    )


def test_slots_follow_a_catalogue_and_are_given_back() -> None:
    live, catalogue = LiveStream(VIDEO_STREAM, capacity=2), catalogue_of(5)
    early = live.follow(catalogue)
    live.apply(["v003", "unknown", None], [StreamEvent("click", at(0))] * 3, at(0))
    late = live.follow(catalogue)
    rows = np.arange(5, dtype=np.int32)
    for slots in (early, late):
        found = live.of_rows(slots, rows, at(1))
        assert found.any(axis=1).tolist() == [False, False, False, True, False]
    ids, rows_changed, gone = live.changes(at(1))
    assert sorted(ids) == ["unknown", "v003"] and rows_changed.any(axis=1).all() and not gone
    assert live.changes(at(2))[0] == []
    assert sorted(live.changes(at(6))[0]) == ["unknown", "v003"]  # they left the five minutes
    assert sorted(live.changes(at(60))[2]) == ["unknown", "v003"] and len(live) == 0
    assert not live.of_rows(early, rows, at(61)).any() and not early.of_row.any()


def test_what_is_dated_ahead_counts_as_of_now_and_what_is_too_old_not_at_all() -> None:
    live = LiveStream(USER_STREAM)
    live.apply(
        ["u", "v"], [StreamEvent("watch", at(500), 9_000), StreamEvent("watch", at(-60), 9_000)], at(0)
    )
    assert named(USER_STREAM, live.of(["u"], at(3))[0])["watch_s_5m"] == pytest.approx(log(10))
    assert named(USER_STREAM, live.of(["u"], at(3))[0])["minutes_idle"] == pytest.approx(log(4))
    assert len(live) == 1


def test_a_read_by_the_clock_of_another_day_takes_nothing_away() -> None:
    live, day = LiveStream(VIDEO_STREAM), 24 * 60
    slots, rows = live.follow(catalogue_of(2)), np.zeros(1, np.int32)
    live.apply(["v000"], [StreamEvent("click", at(0))], at(0))
    now = live.of(["v000"], at(1))
    assert now.any()
    for later in (61, day):
        assert not live.of(["v000"], at(later)).any() and not live.of_rows(slots, rows, at(later)).any()
    live.of(["v000"], at(-day))
    np.testing.assert_array_equal(live.of(["v000"], at(1)), now)
    live.apply(["v000"], [StreamEvent("click", at(1))], at(1))
    found = live.of_rows(slots, rows, at(1))[0]
    assert named(VIDEO_STREAM, found)["clicks_1h"] == pytest.approx(log(3))


def test_a_clock_that_steps_back_by_a_day_counts_from_there() -> None:
    live, back = LiveStream(VIDEO_STREAM), -24 * 60
    live.apply(["old", "both"], [StreamEvent("click", at(0))] * 2, at(0))
    live.changes(at(0))
    live.apply(["both"], [StreamEvent("click", at(back))], at(back))
    found = [named(VIDEO_STREAM, row)["clicks_1h"] for row in live.of(["old", "both"], at(back))]
    assert found == pytest.approx([0, log(2)])
    ids, _, gone = live.changes(at(back))
    assert (ids, gone) == (["both"], ["old"])
    assert named(VIDEO_STREAM, live.of(["both"], at(back + 5))[0])["clicks_5m"] == 0
    assert live.changes(at(back + 60))[2] == ["both"] and len(live) == 0


def test_a_thousand_rows_are_read_in_two_milliseconds() -> None:
    live, catalogue = LiveStream(VIDEO_STREAM), catalogue_of(1)
    ids = [f"x{n}" for n in range(20_000)]
    live.apply(ids, [StreamEvent("click", at(0))] * len(ids), at(0))
    slots = live.follow(catalogue)
    slots.of_row = np.random.default_rng(0).integers(0, 20_000, 1_000_000).astype(np.int32)
    rows = np.random.default_rng(1).integers(0, 1_000_000, 1_000).astype(np.int32)
    took = []
    for _ in range(50):
        start = perf_counter()
        live.of_rows(slots, rows, at(1))
        took.append(perf_counter() - start)
    assert sorted(took)[25] < 0.002, f"{sorted(took)[25] * 1e3:.2f} ms"

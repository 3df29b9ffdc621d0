"""Histories are the same wherever they come from, and know nothing of their own future."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import Catalogue
from models.dataset import HEADS, Dataset, Examples, Interactions, Split, running_total
from models.history import Histories, strength, viewer_history, watch_fraction
from upnext.contracts import EVENTS, VIDEOS
from upnext.errors import CorruptData, MissingData

START = datetime(2026, 1, 1, tzinfo=UTC)


def us(time: datetime) -> int:
    return round(time.timestamp() * 1e6)


def catalogue(n: int = 6, duration_ms: int | None = 10_000) -> Catalogue:
    rows = [
        {"video_id": f"v{i}", "duration_ms": duration_ms, "uploaded_at": START - timedelta(days=n - i)}
        for i in range(n)
    ]
    return Catalogue.of(pa.Table.from_pylist(rows, VIDEOS))


def test_strength_by_hand() -> None:
    #                   watch, click, like, share, not interested
    assert strength(0.6, 1, 0, 0, 0) == pytest.approx(0.6)
    assert strength(0.0, 1, 0, 0, 0) == pytest.approx(0.1)
    assert strength(2.5, 1, 1, 1, 0) == pytest.approx(3.0)
    assert strength(0.0, 0, 1, 0, 0) == pytest.approx(1.0)
    assert strength(1.0, 1, 1, 0, 1) == pytest.approx(-1.0)
    assert strength([0.2, 0.4], [0, 0], [0, 1], [0, 0], [0, 0]) == pytest.approx([0.2, 1.4])


def test_watch_fraction_by_hand() -> None:
    fractions = watch_fraction(
        [5_000, 30_000, np.nan, 7_000, 0, 0], [10_000, 10_000, 10_000, np.nan, 10_000, np.nan]
    )
    assert fractions.tolist() == [0.5, 1.0, 1.0, 1.0, 0.0, 0.0]


def interactions(rows: list[tuple[int, int, int, float]], n_users: int = 3) -> Interactions:
    ordered = sorted(rows, key=lambda row: (row[0], row[2], row[1]))
    user, video, ts, value = (np.array(column) for column in zip(*ordered, strict=True))
    return Interactions(
        user.astype(np.int32),
        video.astype(np.int32),
        ts.astype(np.int64),
        value.astype(np.float32),
        np.full(len(user), np.nan, np.float32),
        n_users,
    )


def brute_force(log: Interactions, user: int, ts: int, length: int) -> Histories:
    history = Histories.empty(1, length)
    seen: list[int] = []
    for at in reversed(range(len(log))):
        if log.user[at] == user and log.ts[at] < ts and log.video[at] not in seen and len(seen) < length:
            history.rows[0, len(seen)] = log.video[at]
            history.strength[0, len(seen)] = log.strength[at]
            history.age_s[0, len(seen)] = (ts - log.ts[at]) / 1e6
            seen.append(int(log.video[at]))
    return history


row = st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 30), st.floats(-1, 3, width=32))


@settings(deadline=None)
@given(st.lists(row, min_size=1, max_size=60), st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 31))))
def test_histories_equal_a_loop(
    rows: list[tuple[int, int, int, float]], asked: list[tuple[int, int]]
) -> None:
    log = interactions(rows)
    users = np.array([user for user, _ in asked], np.int32)
    times = np.array([ts for _, ts in asked], np.int64)
    found = log.histories(users, times, 3)
    assert len(found) == len(asked)
    for at, (user, ts) in enumerate(asked):
        expected = brute_force(log, user, ts, 3)
        np.testing.assert_array_equal(found.rows[at], expected.rows[0])
        np.testing.assert_array_equal(found.strength[at], expected.strength[0])
        np.testing.assert_allclose(found.age_s[at], expected.age_s[0], rtol=1e-6)


def test_histories_of_many_viewers_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    log = interactions([(user, video, 10 * video, 1.0) for user in range(3) for video in range(5)])
    users, times = np.array([0, 1, 2, 0, 1], np.int32), np.array([5, 15, 100, 41, 0])
    whole = log.histories(users, times, 4)
    monkeypatch.setattr("models.dataset.CHUNK", 2)
    np.testing.assert_array_equal(log.histories(users, times, 4).rows, whole.rows)
    assert whole.rows.tolist() == [[0, -1, -1, -1], [1, 0, -1, -1], [4, 3, 2, 1], [4, 3, 2, 1], [-1] * 4]


def test_before_is_strict_and_keeps_the_users() -> None:
    log = interactions([(0, 1, 10, 1.0), (0, 2, 20, 1.0), (2, 3, 5, 1.0)])
    earlier = log.before(20)
    assert earlier.video.tolist() == [1, 3]
    assert earlier.n_users == 3
    assert log.newest.tolist() == [True, True, True]


def test_unsorted_interactions_are_refused() -> None:
    log = interactions([(0, 1, 10, 1.0), (0, 2, 20, 1.0)])
    with pytest.raises(ValueError, match="sorted"):
        Interactions(log.user, log.video, log.ts[::-1], log.strength, log.watch_ms, 1)


def test_running_total_by_hand() -> None:
    totals = running_total(np.array([1, 2, 3, 4, 5]), np.array([7, 7, 8, 9, 9]))
    assert totals.tolist() == [1, 3, 3, 4, 9]


EVENT_KINDS = ("click", "watch", "like", "share", "not_interested", "impression", "search")
event = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["a", "b"]),
        "video_id": st.sampled_from(["v0", "v1", "v2", "v3", "not in the catalogue"]),
        "event_type": st.sampled_from(EVENT_KINDS),
        "watch_duration_ms": st.one_of(st.none(), st.integers(0, 25_000)),
        "minute": st.integers(0, 200),
        "session": st.sampled_from(["s", "t"]),
    }
)


def outcomes_of(events: list[dict[str, object]], videos: Catalogue) -> pa.Table:
    """A plain-Python reading of the lake's table: one row per user, video and session."""
    groups: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for each in events:
        if each["event_type"] != "search":
            groups.setdefault((each["user_id"], each["video_id"], each["session"]), []).append(each)
    rows = []
    for (user_id, video_id, _), group in groups.items():
        kinds = {each["event_type"] for each in group}
        known = videos.rows([video_id])[0]
        length = videos.duration_s[known] * 1000 if known >= 0 else np.nan
        watches = [each["watch_duration_ms"] for each in group if each["event_type"] == "watch"]
        played = None if None in watches or not watches else sum(watches)
        fraction = float(watch_fraction(np.nan if played is None else played, length)) if watches else 0.0
        rows.append(
            {
                "user_id": user_id,
                "video_id": video_id,
                "engaged_at": max(each["timestamp"] for each in group),
                "clicked": "click" in kinds,
                "liked": "like" in kinds,
                "shared": "share" in kinds,
                "not_interested": "not_interested" in kinds,
                "watched": "watch" in kinds,
                "watch_ms": played,
                "watch_fraction": fraction,
            }
        )
    texts, signals = ("user_id", "video_id"), ("clicked", "liked", "shared", "not_interested", "watched")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in texts),
            *((name, pa.bool_()) for name in signals),
            ("engaged_at", pa.timestamp("us", "UTC")),
            ("watch_ms", pa.int64()),
            ("watch_fraction", pa.float32()),
        ]
    )
    return pa.Table.from_pylist(rows, schema)


@settings(deadline=None)
@given(st.lists(event, max_size=40), st.sampled_from([10_000, None]))
def test_store_and_log_give_the_same_history(events: list[dict[str, object]], duration: int | None) -> None:
    videos = catalogue(4, duration)
    events = [each | {"timestamp": START + timedelta(minutes=int(str(each["minute"])))} for each in events]
    events = [each for each in events if each["event_type"] != "impression"]
    now = START + timedelta(minutes=201)
    log = Interactions.of(outcomes_of(events, videos), videos, ["a", "b"])
    trained = log.histories(np.array([0, 1], np.int32), np.array([us(now)] * 2), 3)
    for code, user_id in enumerate("ab"):
        own = [each for each in events if each["user_id"] == user_id]
        recent = pa.Table.from_pylist(
            sorted(own, key=lambda each: each["timestamp"], reverse=True),  # type: ignore[arg-type,return-value]
            pa.schema(
                [
                    EVENTS.field(name)
                    for name in ("video_id", "event_type", "watch_duration_ms", "query", "timestamp")
                ]
            ),
        )
        served = viewer_history(recent, videos, now, 3)
        np.testing.assert_array_equal(served.rows[0], trained.rows[code])
        np.testing.assert_allclose(served.strength[0], trained.strength[code], atol=1e-6)
        np.testing.assert_allclose(served.age_s[0], trained.age_s[code])


def test_impressions_alone_are_no_interactions() -> None:
    videos = catalogue(2)
    events = [
        {"user_id": "a", "video_id": "v0", "event_type": "impression", "session": "s", "timestamp": START},
        {"user_id": "a", "video_id": "v1", "event_type": "click", "session": "s", "timestamp": START},
    ]
    log = Interactions.of(outcomes_of(events, videos), videos, ["a"])
    assert log.video.tolist() == [1]
    assert log.strength == pytest.approx([0.1])


def test_age_is_clipped_at_zero() -> None:
    recent = pa.table(
        {
            "video_id": ["v1"],
            "event_type": ["like"],
            "watch_duration_ms": pa.array([None], pa.int64()),
            "query": pa.array([None], pa.string()),
            "timestamp": pa.array([START + timedelta(hours=1)], pa.timestamp("us", "UTC")),
        }
    )
    history = viewer_history(recent, catalogue(), START, 2)
    assert history.rows.tolist() == [[1, -1]]
    assert history.age_s.tolist() == [[0, 0]]


def test_histories_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, L\]"):
        Histories(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32))


def examples(k: int = 2) -> Examples:
    return Examples(
        user=np.zeros(k, np.int32),
        video=np.arange(k, dtype=np.int32),
        ts=np.full(k, us(START)),
        shown=np.ones(k, np.bool_),
        position=np.full(k, -1, np.int32),
        request=np.full(k, -1, np.int32),
        labels={head: np.full(k, i, np.float32) for i, head in enumerate(HEADS)},
        user_features=np.ones((k, 3), np.float32),
        video_features=np.ones((k, 2), np.float32),
        context=np.ones((k, 1), np.float32),
    )


def test_dataset_round_trip(tmp_path) -> None:  # type: ignore[no-untyped-def]
    log = interactions([(0, 1, 10, 1.0), (0, 2, 20, 0.5), (2, 3, 5, -1.0)])
    saved = Dataset(catalogue(), ["a", "b", "c"], log, Split(15, 20, 30, 40), {"train": examples()})
    saved.save(tmp_path)
    loaded = Dataset.load(tmp_path)
    assert loaded.catalogue.table.equals(saved.catalogue.table)
    assert (loaded.users, loaded.split) == (saved.users, saved.split)
    for name in ("user", "video", "ts", "strength", "watch_ms"):
        np.testing.assert_array_equal(getattr(loaded.interactions, name), getattr(log, name))
    assert loaded.history.video.tolist() == [1, 3]
    np.testing.assert_array_equal(loaded.examples["train"].labels["watch_s"], np.full(2, 5))
    assert loaded.examples["train"].user_features.shape == (2, 3)


def test_dataset_that_is_not_there_or_broken(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MissingData, match="upnext step examples"):
        Dataset.load(tmp_path)
    Dataset(catalogue(), ["a"], interactions([(0, 1, 10, 1.0)], 1), Split(1, 2, 3, 4)).save(tmp_path)
    (tmp_path / "interactions" / "ts.npy").write_bytes(b"not an array")
    with pytest.raises(CorruptData, match="can't be read"):
        Dataset.load(tmp_path)


def test_split_and_examples_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="order"):
        Split(10, 5, 20, 30)
    with pytest.raises(ValueError, match="context"):
        good = examples()
        Examples(**{**good.__dict__, "context": np.zeros((1, 1), np.float32)})

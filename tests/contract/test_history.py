"""What every watch history must do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from upnext.contracts import EVENTS
from upnext.errors import CorruptData, MissingData, StoreReadOnly
from upnext.ports import WatchHistory

PORT = "history"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TTL = timedelta(days=90)
MICROSECOND = timedelta(microseconds=1)


def events(*rows: dict[str, Any]) -> pa.Table:
    usual = {"user_id": "u", "event_type": "watch", "video_id": "v", "timestamp": NOW}
    filled = [usual | {"event_id": f"e{number}"} | row for number, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, schema=EVENTS)


def videos(history: WatchHistory, user: str = "u", now: datetime = NOW, limit: int = 200) -> list[str]:
    return history.recent(user, now, limit)["video_id"].to_pylist()


@pytest.fixture
def history(site: Any) -> WatchHistory:
    return site.open()


def test_the_newest_come_first_with_what_was_done(history: WatchHistory) -> None:
    hour = timedelta(hours=1)
    added = history.add(
        events(
            {"video_id": "old", "timestamp": NOW - 2 * hour, "watch_duration_ms": 500},
            {"video_id": None, "event_type": "search", "query": "кошки 🐈"},
            {"video_id": "видео", "timestamp": NOW - hour, "event_type": "like"},
        )
    )
    assert added == 3
    recent = history.recent("u", NOW)
    assert recent.schema.names == ["video_id", "event_type", "watch_duration_ms", "query", "timestamp"]
    assert recent.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert [tuple(row.values()) for row in recent.to_pylist()] == [
        (None, "search", None, "кошки 🐈", NOW),
        ("видео", "like", None, None, NOW - hour),
        ("old", "watch", 500, None, NOW - 2 * hour),
    ]


def test_impressions_are_not_kept(history: WatchHistory) -> None:
    assert history.add(events({"event_type": "impression"}, {"video_id": "w"})) == 1
    assert videos(history) == ["w"]


def test_a_repeat_counts_once(history: WatchHistory) -> None:
    batch = events({"event_id": "a"}, {"event_id": "b"}, {"event_id": "a"})
    assert history.add(batch) == 2
    assert history.add(batch) == 0
    assert len(videos(history)) == 2


def test_what_is_older_than_the_ttl_is_not_seen(history: WatchHistory) -> None:
    history.add(
        events(
            {"video_id": "just", "timestamp": NOW - TTL},
            {"video_id": "too old", "timestamp": NOW - TTL - MICROSECOND},
        )
    )
    assert videos(history) == ["just"]
    assert videos(history, now=NOW + MICROSECOND) == []
    assert videos(history, now=NOW - TTL) == ["just", "too old"]


def test_purge_drops_exactly_what_is_older_than_the_ttl(history: WatchHistory) -> None:
    history.add(
        events(
            {"video_id": "just", "timestamp": NOW - TTL},
            {"video_id": "too old", "timestamp": NOW - TTL - MICROSECOND},
        )
    )
    assert history.purge(NOW) == 1
    assert history.purge(NOW) == 0
    assert videos(history, now=NOW - TTL) == ["just"]


def test_an_event_of_a_clock_that_runs_ahead_is_seen(history: WatchHistory) -> None:
    history.add(events({"video_id": "ahead", "timestamp": NOW + timedelta(seconds=5)}))
    assert videos(history) == ["ahead"]


def test_limit_keeps_the_newest(history: WatchHistory) -> None:
    rows = [{"video_id": f"v{n}", "timestamp": NOW - n * MICROSECOND} for n in range(300)]
    history.add(events(*rows))
    assert videos(history, limit=3) == ["v0", "v1", "v2"]
    assert len(videos(history)) == 200


def test_forget_removes_one_user_and_nobody_else(history: WatchHistory) -> None:
    history.add(events({"user_id": "用户"}, {"user_id": "用户"}, {"user_id": "other"}))
    assert history.forget("用户") == 2
    assert history.forget("用户") == 0
    assert videos(history, "用户") == []
    assert videos(history, "other") == ["v"]


def test_nobody_and_nothing(history: WatchHistory) -> None:
    assert history.add(EVENTS.empty_table()) == 0
    empty = history.recent("nobody", NOW)
    assert (empty.num_rows, empty.num_columns) == (0, 5)
    assert history.forget("nobody") == 0


def test_a_missing_column_is_named(history: WatchHistory) -> None:
    with pytest.raises(MissingData, match="'user_id'"):
        history.add(events({}).drop_columns(["user_id"]))
    with pytest.raises(CorruptData, match="1 rows have no user_id"):
        history.add(events({"user_id": None}))


def test_many_threads_write_and_read(history: WatchHistory) -> None:
    def work(thread: int) -> int:
        user = f"u{thread % 4}"
        added = 0
        for turn in range(10):
            own, shared = {"event_id": f"{thread}-{turn}"}, {"event_id": "x"}
            added += history.add(events({"user_id": user} | own, {"user_id": user} | shared))
            assert videos(history, user)
        return added

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 81
    assert sum(len(videos(history, f"u{n}")) for n in range(4)) == 81


def test_all_is_there_after_closing(site: Any, history: WatchHistory) -> None:
    history.add(events({"video_id": "kept"}))
    site.close()
    assert videos(site.open()) == ["kept"]


def test_a_read_only_folder_is_told_with_path_and_remedy(site: Any, seal: Callable[[], None]) -> None:
    site.open().add(events({}))
    site.close()
    seal()
    with pytest.raises(StoreReadOnly, match=f"{site.settings.home}.*UPNEXT_HOME"):
        site.open().add(events({"event_id": "new"}))


def test_ping_says_something(history: WatchHistory) -> None:
    assert history.ping()

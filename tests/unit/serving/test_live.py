"""The consumer counts each event once, whatever is killed in between."""

import shutil
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from threading import Thread

import pytest

from serving.impressions import ImpressionLog, Shown
from serving.live import Live, load_state, save_state
from serving.trending import LiveCounts
from tests.support.videos import catalogue_of
from upnext.contracts import Event
from upnext.errors import CorruptData, StoreUnavailable
from upnext.settings import Settings
from upnext.stores import connect

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CATALOGUE = catalogue_of(5)


@pytest.fixture
def stores(tmp_path):
    with connect(Settings(home=tmp_path)) as opened:
        yield opened


def watch(number, video="v001", user="u"):
    return Event(
        event_id=f"e{number}",
        user_id=user,
        event_type="watch",
        video_id=video,
        watch_duration_ms=60_000,
        timestamp=NOW + timedelta(seconds=number),
        region="SE",
    )


def live_of(stores, counts, offset_us=0):
    return Live(
        stores.event_log, stores.history, lambda events: counts.add(events, CATALOGUE), lambda: offset_us
    )


def total(counts, video="v001"):
    return counts.since(0, 1e12, "").get(video, 0.0)


def test_catching_up_applies_what_was_appended_before(stores):
    counts = LiveCounts()
    live = live_of(stores, counts)
    stores.event_log.append([watch(1), watch(2)])
    assert live.catch_up(10.0)
    assert stores.history.recent("u", NOW + timedelta(minutes=1)).num_rows == 2
    assert total(counts) == pytest.approx(2)
    assert live.catch_up(10.0)
    assert total(counts) == pytest.approx(2)


def test_impressions_and_searches_do_not_count_as_watched(stores):
    counts = LiveCounts()
    shown = Shown("u", "r", "home", NOW, ["v001", "v002"], [0, 1], [1.0, 0.5])
    stores.event_log.append(shown.events())
    stores.event_log.append([Event(user_id="u", event_type="search", query="cats", timestamp=NOW)])
    live_of(stores, counts).catch_up(10.0)
    assert counts.since(0, 1e12, "") == {}
    assert stores.history.recent("u", NOW)["query"].to_pylist() == ["cats"]


def test_times_are_moved_to_the_releases(stores):
    live_of(stores, LiveCounts(), offset_us=-3_600_000_000).catch_up(10.0)
    stores.event_log.append([watch(0)])
    live_of(stores, LiveCounts(), offset_us=-3_600_000_000).catch_up(10.0)
    assert stores.history.recent("u", NOW)["timestamp"].to_pylist() == [NOW - timedelta(hours=1)]


def test_going_on_from_a_snapshot_counts_nothing_twice_and_misses_nothing(stores, tmp_path):
    counts, state = LiveCounts(), tmp_path / "live.json"
    live = live_of(stores, counts)
    stores.event_log.append([watch(1)])
    live.catch_up(10.0)
    live.frozen(lambda position: save_state(state, position, {"counts": counts.state()}))
    stores.event_log.append([watch(2)])
    live.catch_up(10.0)  # applied, but killed before the next snapshot
    stores.event_log.append([watch(3)])

    saved, again = load_state(state), LiveCounts()
    again.restore(saved["counts"])
    restarted = live_of(stores, again)
    restarted.position = saved["position"]
    restarted.catch_up(10.0)
    assert total(again) == pytest.approx(3)
    assert stores.history.recent("u", NOW + timedelta(minutes=1)).num_rows == 3


def test_what_a_snapshot_takes_for_applied_is_on_disk(stores, tmp_path):
    """What a loss of power leaves of the history: its file, without the write-ahead log beside it."""
    live, kept = live_of(stores, LiveCounts()), []
    stores.event_log.append([watch(1)])
    live.catch_up(10.0)
    (there,) = tmp_path.rglob("history.db")

    def save(position):
        settings = Settings(home=tmp_path / "after")
        settings.state.mkdir(parents=True)
        shutil.copy(there, settings.state / there.name)
        with connect(settings) as after:
            kept.append(after.history.recent("u", NOW + timedelta(minutes=1)).num_rows)

    live.frozen(save)
    assert kept == [1]


def test_a_state_that_cannot_be_read_is_as_good_as_none(tmp_path):
    (tmp_path / "live.json").write_text("{cut")
    assert load_state(tmp_path / "live.json") == {} == load_state(tmp_path / "none.json")


def test_the_thread_outlives_a_store_that_fails_for_a_while(stores):
    class Flaky:
        def __init__(self):
            self.failures = 3

        def add(self, events):
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("away")
            applied.set()
            return stores.history.add(events)

    applied, counts = Flag(), LiveCounts()
    live = Live(stores.event_log, Flaky(), lambda events: counts.add(events, CATALOGUE), lambda: 0)
    stores.event_log.append([watch(1)])
    live.start("")
    assert applied.wait(20)
    live.stop()
    assert total(counts) == pytest.approx(1)


def test_a_late_catch_up_says_so(stores):
    live = live_of(stores, LiveCounts())
    with live._lock:
        found = []
        asking = Thread(target=lambda: found.append(live.catch_up(0.02)))
        asking.start()
        asking.join()
    assert found == [False]


def test_trending_counts_decay_from_the_hour_of_the_release():
    counts, hour = LiveCounts(), 3_600_000_000
    counts.restore({"10": {"": {"a": 2.0}}, "12": {"": {"a": 1.0}, "SE": {"b": 1.0}}, "9": {"": {"z": 5.0}}})
    assert counts.since(10 * hour, 2.0, "") == pytest.approx({"a": 2.0 + 2.0})
    assert counts.since(10 * hour, 2.0, "SE") == pytest.approx({"b": 2.0})
    assert counts.regions == {"", "SE"}


def test_live_counts_forget_what_is_a_week_old(stores):
    counts = LiveCounts()
    counts.restore({"1": {"": {"a": 1.0}}})
    stores.event_log.append([watch(1)])
    live_of(stores, counts).catch_up(10.0)
    assert list(counts.since(0, 1e12, "")) == ["v001"]


def test_impressions_are_written_in_order_with_position_and_propensity(stores):
    impressions = ImpressionLog(stores.event_log, stores.feature_log)
    impressions.start()
    impressions.put(Shown("u", "r1", "home", NOW, ["v1", "v2"], [0, 2], [1.0, 0.25], session_id="s"))
    impressions.stop()
    events = stores.event_log.read().events.to_pylist()
    assert [(e["video_id"], e["position"], e["propensity"], e["request_id"]) for e in events] == [
        ("v1", 0, 1.0, "r1"),
        ("v2", 2, 0.25, "r1"),
    ]
    assert {e["event_type"] for e in events} == {"impression"}
    assert {e["session_id"] for e in events} == {"s"}


@pytest.mark.parametrize("error", [StoreUnavailable, CorruptData])
def test_impressions_that_cannot_be_written_are_counted(error):
    class Down:
        def append(self, events):
            raise error("away")

    lost = []
    impressions = ImpressionLog(Down(), Down(), on_drop=lost.append)
    impressions.put(Shown("u", "r", "home", NOW, ["v1", "v2"], [0, 1], [1.0, 1.0]))
    impressions.flush()
    assert lost == [2]

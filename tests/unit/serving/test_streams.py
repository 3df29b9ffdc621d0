"""Real-time features in the service: counted from the log, read, published, recalled at the start."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from feature_repo.layout import spec_layout
from feature_repo.packed import PackedFeatures
from feature_repo.specs import STREAMS, USER_STREAM, VIDEO_STREAM
from serving.live import Live
from serving.streams import Publisher, Streams
from tests.support.videos import catalogue_of
from upnext.contracts import Event
from upnext.errors import StoreUnavailable
from upnext.settings import Settings
from upnext.stores import connect

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
MINUTE_US = 60_000_000
CATALOGUE = catalogue_of(5)


@pytest.fixture
def stores(tmp_path):
    with connect(Settings(home=tmp_path)) as opened:
        yield opened


def event(number, kind="watch", minutes_ago=0.0, **columns):
    given = {"watch_duration_ms": 9_000} if kind == "watch" else {}
    at = NOW - timedelta(minutes=minutes_ago)
    return Event(
        event_id=f"e{number}",
        user_id="u",
        video_id="v001",
        event_type=kind,
        timestamp=at,
        **(given | columns),
    )


def follow(stores, streams):
    def add(events):
        streams.add(events, NOW_US)

    return Live(stores.event_log, stores.history, add, lambda: 0, add)


def watches_1h(streams):
    return np.expm1(streams.videos.of(["v001"], NOW_US)[0][VIDEO_STREAM.names.index("watches_1h")])


def test_impressions_and_engagement_are_felt_by_video_and_viewer(stores):
    streams = Streams()
    stores.event_log.append([event(1, "impression"), event(2), event(3, "like"), event(4, minutes_ago=70)])
    assert follow(stores, streams).catch_up(10)
    reader = streams.reader(CATALOGUE)
    rows = reader.of_videos(np.array([0, 1], np.int32), NOW_US)
    named = dict(zip(VIDEO_STREAM.names, np.expm1(rows[1]).tolist(), strict=True))
    assert named["impressions_5m"] == named["watches_5m"] == named["likes_1h"] == pytest.approx(1)
    assert named["watch_s_1h"] == pytest.approx(9) and not rows[0].any()
    mine = dict(zip(USER_STREAM.names, np.expm1(reader.of_user("u", NOW_US)[0]).tolist(), strict=True))
    assert mine["session_depth"] == pytest.approx(2) and mine["watches_5m"] == pytest.approx(1)
    stranger = reader.of_user("", NOW_US)[0]
    np.testing.assert_allclose(stranger, [spec.default for spec in USER_STREAM.features], rtol=1e-6)


def test_what_changed_is_published_and_what_is_over_removed(stores):
    streams, now = Streams(), [NOW_US]
    publisher = Publisher(streams, stores.online_features, lambda: now[0])
    layouts = {name: spec_layout(spec) for name, spec in STREAMS.items()}
    packed = PackedFeatures(stores.online_features, layouts, now=lambda: now[0])
    stores.event_log.append([event(1)])
    follow(stores, streams).catch_up(10)
    assert publisher.publish() == 2 and publisher.publish() == 0
    rows = packed.read_matrix(VIDEO_STREAM.name, ["v001"])
    np.testing.assert_allclose(rows, streams.videos.of(["v001"], NOW_US), rtol=1e-3)
    now[0] += 61 * MINUTE_US
    assert publisher.publish() == 2
    assert packed.count(VIDEO_STREAM.name) == packed.count(USER_STREAM.name) == 0


def test_what_could_not_be_published_is_published_later(stores, monkeypatch):
    streams, now = Streams(), [NOW_US]
    publisher = Publisher(streams, stores.online_features, lambda: now[0])
    packed = PackedFeatures(
        stores.online_features, {name: spec_layout(spec) for name, spec in STREAMS.items()}
    )

    def away(*args, **kwargs):
        raise StoreUnavailable("the online store is away")

    def fails(write):
        with monkeypatch.context() as patched:
            patched.setattr(stores.online_features, write, away)
            with pytest.raises(StoreUnavailable):
                publisher.publish()

    stores.event_log.append([event(1)])
    follow(stores, streams).catch_up(10)
    fails("put")
    assert publisher.publish() == 2 and publisher.publish() == 0
    assert packed.count(VIDEO_STREAM.name) == packed.count(USER_STREAM.name) == 1
    streams.users.forget("u")
    now[0] += 61 * MINUTE_US
    fails("delete")
    assert publisher.publish() == 2 and publisher.publish() == 0, "both gone, and nobody is no entity"
    assert packed.count(VIDEO_STREAM.name) == packed.count(USER_STREAM.name) == 0


def test_the_last_hour_is_counted_anew_after_a_restart(stores):
    first, log = Streams(), stores.event_log
    live = follow(stores, first)
    log.append([event(0, minutes_ago=200)])
    live.catch_up(10)
    for number in range(1, 50):  # one a minute
        log.append([event(number, minutes_ago=50 - number)])
        live.catch_up(10)
    position, recent = live.position, live.recent
    assert recent["events"] == 50  # one more than the hour has: a mark lies before each minute
    log.append([event(90), event(91)])  # they came after the snapshot
    second, other = Streams(), Streams()
    again = follow(stores, second)
    again.start(position, recent)
    assert again.catch_up(10) and not again.failing
    again.stop()
    whole = follow(stores, other)
    whole.catch_up(10)
    assert watches_1h(second) == pytest.approx(watches_1h(other)) == pytest.approx(51)
    np.testing.assert_array_equal(second.users.of(["u"], NOW_US), other.users.of(["u"], NOW_US))
    assert again.recent["events"] == 52

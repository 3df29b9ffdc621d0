"""Tables of the world: the contract's columns, one answer to each question, days that only add."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from upnext.contracts import EVENTS, USERS, VIDEOS, Event, User, Video
from upnext.errors import NotFound
from upnext.sources.world import WorldSource
from upnext.world import sessions
from upnext.world.config import DAY_US, START, START_US, WorldConfig
from upnext.world.geography import TOPICS
from upnext.world.world import World


def count(table: pa.Table, kind: str) -> int:
    return pc.sum(pc.equal(table["event_type"], kind)).as_py()


def test_tables_are_the_contracts(small, small_log):
    videos, users = pa.concat_tables(small.videos()), pa.concat_tables(small.users())
    assert videos.schema.equals(VIDEOS)
    assert users.schema.equals(USERS)
    assert small_log.schema.equals(EVENTS)
    for row in small_log.slice(0, 500).to_pylist():
        Event(**row)
    for row in videos.to_pylist():
        Video(**row)
    for row in users.to_pylist():
        User(**row)
    for table, column in ((videos, "video_id"), (users, "user_id"), (small_log, "event_id")):
        assert pc.count_distinct(table[column]).as_py() == len(table)
    assert pc.all(pc.is_in(small_log["video_id"].drop_null(), videos["video_id"])).as_py()
    assert pc.all(pc.is_in(small_log["user_id"], users["user_id"])).as_py()
    assert videos["uploaded_at"].to_pylist() == sorted(videos["uploaded_at"].to_pylist())
    assert videos["duration_ms"].to_numpy().min() >= 10_000
    assert videos["duration_ms"].to_numpy().max() <= 1_200_000


def test_events_are_in_time_order_and_follow_uploads_and_sign_ups(small, small_log):
    times = small_log["timestamp"].cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()
    assert times[0] >= START_US
    assert times[-1] < small.config.end_us
    watched = small_log.filter(pc.is_valid(small_log["video_id"]))
    uploaded = small.catalogue.uploaded_us[small.video_rows(watched["video_id"])]
    assert (uploaded < watched["timestamp"].cast(pa.int64()).to_numpy()).all()


def test_another_world_object_and_another_batch_size_give_the_same(small, small_log, monkeypatch):
    monkeypatch.setattr(sessions, "SESSIONS_AT_ONCE", 37)
    again = pa.concat_tables(World(small.config).events())
    assert again.equals(small_log)


def test_more_days_only_add(small, small_log):
    longer = World(replace(small.config, days=8))
    log = pa.concat_tables(longer.events())
    assert log.slice(0, len(small_log)).equals(small_log)
    assert len(log) > len(small_log)
    for more, table in ((longer.videos(), small.videos()), (longer.users(), small.users())):
        old = pa.concat_tables(table)
        new = pa.concat_tables(more)
        assert new.slice(0, len(old)).equals(old)
        assert len(new) > len(old)


def test_a_day_needs_no_day_before(small, small_log):
    since, until = START + timedelta(days=3, hours=5), START + timedelta(days=4, hours=1)
    wanted = pc.and_(
        pc.greater_equal(small_log["timestamp"], pa.scalar(since)),
        pc.less(small_log["timestamp"], pa.scalar(until)),
    )
    some = pa.concat_tables(small.events(since, until))
    assert some.equals(small_log.filter(wanted))
    assert list(small.events(until, since)) == []
    assert (
        pa.concat_tables(WorldSource("users=400,videos=600,seed=3,days=6").events(since))["timestamp"][
            0
        ].as_py()
        >= since
    )


def test_seeds_differ(small):
    other = World(replace(small.config, seed=4))
    assert not pa.concat_tables(other.videos()).equals(pa.concat_tables(small.videos()))


def test_batches_are_bounded_whatever_the_world_holds(small):
    # A page shows 10 slots and yields at most 6 events a slot, a session has at most 6 pages and a search;
    # what waits for later batches are sessions under way.
    most = sessions.SESSIONS_AT_ONCE * (sessions.MOST_PAGES * sessions.SLOTS * 6 + 1)
    big = World(WorldConfig(users=200_000, videos=1000, seed=1, days=1))
    sizes = [len(table) for table in big.events(START, START + timedelta(hours=2))]
    assert len(sizes) > 1
    assert max(sizes) < most / 4


def test_rates_are_those_of_a_real_platform(small_log):
    impressions, watches = count(small_log, "impression"), count(small_log, "watch")
    assert 0.10 < count(small_log, "click") / impressions < 0.30
    assert 0.02 < count(small_log, "like") / watches < 0.05
    assert 0.003 < count(small_log, "share") / watches < 0.015
    assert 0.001 < count(small_log, "not_interested") / impressions < 0.006
    searching = small_log.filter(pc.equal(small_log["event_type"], "search"))
    assert 0.07 < len(searching) / pc.count_distinct(small_log["session_id"]).as_py() < 0.13
    assert 10 < len(small_log) / 2400 < 25  # events by viewer and day


def test_activity_is_heavy_tailed(small_log):
    sessions_by_user = small_log.group_by("user_id").aggregate([("session_id", "count_distinct")])
    counts = np.sort(sessions_by_user["session_id_count_distinct"].to_numpy())[::-1]
    assert counts[: len(counts) // 10].sum() > 0.25 * counts.sum()


def test_words_and_pictures_tell_the_topic(small):
    videos = pa.concat_tables(small.videos())
    topics = [TOPICS[code] for code in small.catalogue.topic]
    right = np.mean([a == b for a, b in zip(videos["category"].to_pylist(), topics, strict=True)])
    assert 0.88 < right < 0.97
    assert pc.min(pc.list_value_length(videos["tags"])).as_py() >= 1
    for tags in videos["tags"].to_pylist():
        assert len(set(tags)) == len(tags)
    pictures = small.thumbnails(np.arange(300))
    assert pictures.shape == (300, 64, 64, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(small.thumbnails(np.array([17])), pictures[17:18])
    # The mean colour of the middle alone puts a picture nearer to its topic's mean than to most others.
    middle = pictures[:, 24:40, 24:40].reshape(300, -1, 3).mean(axis=1)
    topic = small.catalogue.topic[:300]
    means = np.stack(
        [middle[topic == k].mean(axis=0) if (topic == k).any() else [-999] * 3 for k in range(24)]
    )
    distance = np.linalg.norm(middle[:, None] - means[None], axis=2)
    rank = (distance < distance[np.arange(300), topic][:, None]).sum(axis=1)
    assert np.median(rank) <= 2


def test_ids_of_strangers_are_not_found(small):
    assert small.viewer_rows(["u00000012"]).tolist() == [12]
    for stranger in ("u99999999", "12", "v00000001", ""):
        with pytest.raises(NotFound):
            small.viewer_rows([stranger])


def test_new_viewers_and_videos_keep_arriving(small):
    joined = pa.concat_tables(small.users())["created_at"].cast(pa.int64()).to_numpy()
    assert (np.diff(joined) >= 0).all()
    assert small.user_count == (joined < small.config.end_us).sum() == 400 + 12
    uploaded = small.catalogue.uploaded_us
    assert ((uploaded >= START_US) & (uploaded < START_US + DAY_US)).sum() == 3
    assert small.live_videos(START) == 600

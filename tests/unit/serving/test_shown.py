"""What viewers were shown lately and what came of impressions, against counting by hand."""

import gc
from weakref import ref

import numpy as np
import pyarrow as pa

from models.exposure import Exposure
from serving.exposure import LiveExposure, Seen
from serving.server import Server
from serving.shown import ShownLately
from tests.support.videos import NOW, catalogue_of
from upnext.contracts import EVENTS, UtcTime
from upnext.settings import Settings
from upnext.times import HOUR_US

CATALOGUE = catalogue_of(4)
SECOND = 1_000_000


def events(*rows):
    """(user, type, video, seconds ago, seconds watched) as a table of EVENTS."""
    made = [
        {
            "event_id": str(at),
            "user_id": user,
            "event_type": kind,
            "video_id": video,
            "timestamp": NOW - ago * SECOND,
            "watch_duration_ms": watched * 1_000 if watched is not None else None,
        }
        for at, (user, kind, video, ago, watched) in enumerate(rows)
    ]
    columns = {field.name: [row.get(field.name) for row in made] for field in EVENTS}
    return pa.table(
        [
            pa.array(columns[field.name], pa.int64()).cast(UtcTime)
            if field.name == "timestamp"
            else pa.array(columns[field.name], field.type)
            for field in EVENTS
        ],
        schema=EVENTS,
    )


def just_shown(server, video, times):
    """Impressions of one video by the release's clock."""
    table = events(*[("ann", "impression", video, 0, None)] * times)
    at = table.schema.get_field_index("timestamp")
    now = server.engine.current.clock.now()
    return table.set_column(at, EVENTS.field(at), pa.array([now] * times, UtcTime))


def shown_to(memory, user):
    rows, age_s = memory.of(user, CATALOGUE, NOW)
    return sorted(zip(rows.tolist(), age_s.tolist(), strict=True))


def test_impressions_are_remembered_by_viewer_and_nothing_else_is():
    memory = ShownLately()
    memory.add(
        events(
            ("ann", "impression", "v000", 60, None),
            ("ann", "impression", "v002", 30, None),
            ("bob", "impression", "v001", 20, None),
            ("ann", "click", "v003", 10, None),
            ("ann", "impression", "gone", 10, None),
            ("ann", "impression", "v002", 5, None),
        )
    )
    assert shown_to(memory, "ann") == [(0, 60), (2, 5), (2, 30)]
    assert shown_to(memory, "bob") == [(1, 20)]
    assert shown_to(memory, "eve") == []
    assert memory.forget("ann") == 4
    assert shown_to(memory, "ann") == [] and memory.forget("ann") == 0


def test_memory_is_bounded_by_viewers_and_by_impressions_of_each():
    memory = ShownLately(viewers=2, each=3)
    ids = ["v000", "v001", "v002", "v003", "v000"]
    memory.add(events(*(("ann", "impression", video, 10 - at, None) for at, video in enumerate(ids))))
    assert shown_to(memory, "ann") == [(0, 6), (2, 8), (3, 7)]  # the newest three
    memory.add(events(("bob", "impression", "v001", 1, None), ("ann", "impression", "v001", 1, None)))
    memory.add(events(("eve", "impression", "v002", 1, None)))
    assert shown_to(memory, "bob") == []  # ann was shown something since
    assert [len(shown_to(memory, user)) for user in ("ann", "eve")] == [3, 1]
    memory.forget("ann")
    memory.add(events(("bob", "impression", "v001", 1, None)))
    assert [len(shown_to(memory, user)) for user in ("bob", "eve")] == [1, 1]  # ann's place is used again


def test_exposure_counts_impressions_and_long_views():
    seen = Seen.of(
        events(
            ("ann", "impression", "v000", 3, None),
            ("bob", "impression", "v000", 3, None),
            ("ann", "watch", "v000", 2, 31),  # of 60 s
            ("ann", "watch", "v001", 2, 29),
            ("ann", "like", "v001", 2, None),
            ("ann", "impression", "gone", 2, None),
            ("ann", "search", None, 2, None),
        ),
        CATALOGUE,
    )
    live = LiveExposure()
    live.add(seen, CATALOGUE)
    base = Exposure(np.asarray([5, 5, 5, 5], np.int32), np.asarray([1, 1, 1, 1], np.int32))
    total = live.follow(base, CATALOGUE, NOW - HOUR_US)
    assert (total.impressions.tolist(), total.successes.tolist()) == ([7, 5, 5, 5], [2, 1, 1, 1])
    assert base.impressions.tolist() == [5] * 4, "the release's own counts stay as they are"
    later = live.follow(base, CATALOGUE, NOW + HOUR_US)
    assert later.impressions.tolist() == [5] * 4, "what the release knows already is not counted again"
    live.add(seen, CATALOGUE)
    assert (total.impressions.tolist(), total.successes.tolist()) == ([9, 5, 5, 5], [3, 1, 1, 1])
    assert later.impressions.tolist() == [5] * 4


def test_exposure_that_is_restored_reaches_the_releases_in_use():
    """A restart loads the release first, and then the counts; a release may have another catalogue."""
    live, restored = LiveExposure(), LiveExposure()
    fewer = catalogue_of(2)
    followed = [restored.follow(Exposure.none(len(of)), of, NOW - HOUR_US) for of in (CATALOGUE, fewer)]
    live.add(Seen.of(events(*[("ann", "impression", "v003", 3, None)] * 2), CATALOGUE), CATALOGUE)
    live.add(Seen.of(events(("ann", "watch", "v001", 2, 31)), CATALOGUE), CATALOGUE)
    for _ in range(2):
        restored.restore(live.state())
        assert [each.impressions.tolist() for each in followed] == [[0, 0, 0, 2], [0, 0]]
        assert [each.successes.tolist() for each in followed] == [[0, 1, 0, 0], [0, 1]]
    assert restored.hours == live.hours
    restored.add(Seen.of(events(("bob", "impression", "v001", 1, None)), CATALOGUE), CATALOGUE)
    assert [each.impressions.tolist() for each in followed] == [[0, 1, 0, 2], [0, 1]]


def test_nothing_is_kept_of_a_release_that_is_let_go():
    live = LiveExposure()
    for _ in range(3):
        catalogue = catalogue_of(4)
        live.follow(Exposure.none(4), catalogue, NOW)
    last = ref(catalogue)
    del catalogue
    kept = live.follow(Exposure.none(4), CATALOGUE, NOW)
    gc.collect()
    assert last() is None and len(kept.impressions) == 4


def test_exposure_is_forgotten_after_a_week():
    live = LiveExposure()
    old = events(("ann", "impression", "v000", 8 * 86_400, None))
    new = events(("ann", "impression", "v001", 0, None))
    for each in (old, new):
        live.add(Seen.of(each, CATALOGUE), CATALOGUE)
    assert [list(videos) for videos in live.hours.values()] == [["v001"]]


def test_an_impression_without_a_click_lowers_the_video_in_the_next_feed(server):
    first = server.engine.home("ann", 20)
    ids = server.engine.current.bundle.catalogue.ids
    top = str(ids[first.slate.rows[0]])
    server.engine.count_live(just_shown(server, top, 10))
    second = server.engine.home("ann", 20)
    assert top not in [str(ids[row]) for row in second.slate.rows[:5]]


def test_a_restart_remembers_what_was_shown(bundle, tmp_path):
    settings = Settings(home=tmp_path, dataset="tiny")
    counts = []
    for restarted in (False, True):
        server = Server(settings, str(bundle.folder), open_without_keys=True)
        server.watcher.look()
        server._follow()
        if not restarted:
            server.engine.count_live(just_shown(server, "v003", 4))
        counts.append(server.engine.current.funnel.inventory.exposure.impressions[3])
        server.stop()
    assert counts == [bundle.exposure.impressions[3] + 4] * 2


def test_a_release_beside_the_champion_hears_of_what_is_shown(server, bundle):
    beside = server.releases.prepare(bundle, "beside")
    server.engine.count_live(just_shown(server, "v003", 4))
    assert beside.funnel.inventory.exposure.impressions[3] == bundle.exposure.impressions[3] + 4
    beside.features.close()

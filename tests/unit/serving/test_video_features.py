"""The ranker sees the freshest video features there are, and the feed answers whatever becomes of them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from components.release import hand_over_rows
from feature_repo.packed import PackedFeatures
from feature_repo.rows import write_rows
from feature_repo.specs import USER_VIEW, VIDEO_VIEW
from models.bundle import Bundle
from models.layout import FeatureLayout
from serving import breakers, video_features
from serving.breakers import FAILURES
from serving.rules import FunnelConfig
from serving.server import Server
from tests.support.bundles import AS_OF, LAYOUTS
from tests.support.patience import PATIENT
from tests.support.redis_server import RedisServer, free_port, redis_server
from tests.support.stalling_proxy import stalling_proxy
from upnext.errors import LayoutMismatch
from upnext.settings import Settings

LAYOUT = LAYOUTS[VIDEO_VIEW]
ROWS = np.array([5, 0, 119], np.int32)


def gathered(server: Server, rows=ROWS):
    return server.engine.current.funnel.ranker.videos.gather(rows)[0]


def filled(bundle: Bundle, value: float):
    return np.full((len(bundle.catalogue), LAYOUT.width), value, np.float32)


def write_online(server: Server, bundle: Bundle, value: float, layout=LAYOUT, ids=None) -> None:
    packed = PackedFeatures(server.stores.online_features, {VIDEO_VIEW: layout})
    ids = bundle.catalogue.ids.tolist() if ids is None else ids
    packed.write_matrix(VIDEO_VIEW, ids, np.full((len(ids), layout.width), value, np.float32), 0)


def fallbacks(server: Server, place: str, why: str) -> float:
    labels = {"place": place, "why": why}
    return server.telemetry.registry.get_sample_value("upnext_video_feature_fallbacks_total", labels) or 0.0


@pytest.fixture
def state(server: Server) -> Path:
    return server.settings.state


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_features, "LOOK_S", 0.0)


def serving(bundle: Bundle, tmp_path: Path, url: str) -> Server:
    patient = FunnelConfig(limits=PATIENT)
    settings = Settings(home=tmp_path / "home", dataset="tiny", online_features_url=url)
    made = Server(settings, str(bundle.folder), patient)
    made.watcher.look()
    assert made.engine.ready, made.watcher.failing
    return made


@pytest.fixture
def closing() -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for each in servers:
        each.engine.close()
        each.stores.close()


def test_a_new_generation_is_seen_while_serving(server: Server, bundle: Bundle, state: Path) -> None:
    np.testing.assert_array_equal(gathered(server), bundle.video_features[ROWS])
    hand_over_rows(bundle, state)
    np.testing.assert_array_equal(gathered(server), bundle.video_features[ROWS])
    before = fallbacks(server, "online", "no rows")
    ids, later = bundle.catalogue.ids.tolist(), AS_OF + timedelta(hours=1)
    write_rows(state, VIDEO_VIEW, LAYOUT, later, ids[:6], filled(bundle, 7.0)[:6], filled(bundle, -1.0)[0])
    np.testing.assert_array_equal(gathered(server)[:, 0], [7, 7, -1])
    assert fallbacks(server, "online", "no rows") == before
    assert len(server.engine.home("ann", 30).slate) == 30


def test_without_rows_the_online_store_answers_by_id(server: Server, bundle: Bundle) -> None:
    write_online(server, bundle, 3.0, ids=bundle.catalogue.ids[:100].tolist())
    got = gathered(server)
    assert (got[:2] == 3.0).all()
    np.testing.assert_array_equal(got[2], bundle.video_features[119])  # the store does not know it
    assert fallbacks(server, "online", "no rows") >= 1


def test_values_of_another_layout_are_counted_and_not_used(server: Server, bundle: Bundle) -> None:
    write_online(server, bundle, 3.0, layout=FeatureLayout.of(LAYOUT.names[:-1]))
    np.testing.assert_array_equal(gathered(server), bundle.video_features[ROWS])
    assert fallbacks(server, "release", "error") == 1
    assert len(server.engine.home("ann", 30).slate) == 30


def test_corrupt_values_are_counted_and_the_releases_own_used(server: Server, bundle: Bundle) -> None:
    write_online(server, bundle, 3.0)
    ids = bundle.catalogue.ids[ROWS].tolist()
    (view,) = PackedFeatures(server.stores.online_features, LAYOUTS).versions(VIDEO_VIEW)
    server.stores.online_features.put(view, ids[:1], [b"torn"])
    got = gathered(server)
    np.testing.assert_array_equal(got[0], bundle.video_features[ROWS[0]])
    assert (got[1:] == 3.0).all()
    told = server.telemetry.text().decode()
    assert f'upnext_features_lacking_total{{view="{VIDEO_VIEW}",why="corrupt"}} 1.0' in told


def test_rows_that_are_cut_short_leave_those_before_in_use(
    server: Server, bundle: Bundle, state: Path
) -> None:
    hand_over_rows(bundle, state)
    gathered(server)
    ids, later = bundle.catalogue.ids.tolist(), AS_OF + timedelta(hours=1)
    write_rows(state, VIDEO_VIEW, LAYOUT, later, ids, filled(bundle, 7.0), filled(bundle, 0.0)[0])
    newest = max(state.glob("rows/*@*/*.rows"))
    newest.write_bytes(newest.read_bytes()[:-1])
    np.testing.assert_array_equal(gathered(server), bundle.video_features[ROWS])
    assert fallbacks(server, "rows before", "CorruptData") == 1


def test_redis_is_away_from_the_start(bundle: Bundle, tmp_path: Path, closing: list[Server]) -> None:
    server = serving(bundle, tmp_path, f"redis://127.0.0.1:{free_port()}/0")
    closing.append(server)
    answer = server.engine.home("ann", 30)
    assert len(answer.slate) == 30 and answer.ranked is not None
    assert "StoreUnavailable" in answer.trace.skipped["user_features"]
    assert fallbacks(server, "release", "error") >= 1
    for _ in range(FAILURES):
        answer = server.engine.home("ann", 30)
    assert answer.trace.skipped["user_features"].startswith("open: online_features failed lately")
    assert answer.trace.skipped["video_features"].startswith("open: ")
    assert fallbacks(server, "release", "open") >= 1


def test_redis_goes_away_and_comes_back(
    bundle: Bundle, tmp_path: Path, closing: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakers, "REST_S", 0.0)
    with redis_server() as redis:
        server = serving(bundle, tmp_path, redis.url())
        closing.append(server)
        write_online(server, bundle, 3.0)
        assert (gathered(server) == 3.0).all()
    deadline = monotonic() + 5
    while (gathered(server) == 3.0).all():  # what is near may be used for a second
        assert monotonic() < deadline
    np.testing.assert_array_equal(gathered(server), bundle.video_features[ROWS])
    assert len(server.engine.home("ann", 30).slate) == 30
    with redis_server(port=redis.port):
        write_online(server, bundle, 4.0)
        deadline = monotonic() + 10
        while not (gathered(server) == 4.0).all():  # one read tries the store, those after it find it well
            assert monotonic() < deadline


def test_a_slow_redis_costs_its_features_and_not_the_ranking(
    bundle: Bundle,
    tmp_path: Path,
    closing: list[Server],
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breakers, "REST_S", 0.0)
    with stalling_proxy(redis_server.port) as proxy:
        server = serving(bundle, tmp_path, f"redis://127.0.0.1:{proxy.port}/0")
        closing.append(server)
        server.engine.home("ann", 30)
        before = fallbacks(server, "release", "error")
        proxy.stall()
        answer = server.engine.home("ann", 30)
        assert len(answer.slate) == 30 and answer.ranked is not None
        assert {"user_features", "video_features"} <= answer.trace.skipped.keys()
        assert fallbacks(server, "release", "error") == before + 1
        proxy.flow()


def test_viewers_features_come_through_the_near_cache(
    bundle: Bundle, tmp_path: Path, closing: list[Server], redis_server: RedisServer
) -> None:
    server = serving(bundle, tmp_path, redis_server.url())
    closing.append(server)
    features = server.engine.current.features
    features.write_matrix(USER_VIEW, ["ann"], np.full((1, LAYOUTS[USER_VIEW].width), 2.0, np.float32), 0)
    assert set(features.near) == {USER_VIEW, VIDEO_VIEW}  # what nobody reads is kept near nobody
    cache = features.near[USER_VIEW]
    assert cache.await_vouched(5.0)
    for _ in range(3):
        assert (server.engine.home("ann", 5).viewer.features == 2.0).all()
    assert cache.counts["hits"] >= 1
    labels = {"view": USER_VIEW, "outcome": "hits"}
    assert server.telemetry.registry.get_sample_value("upnext_near_cache_rows_total", labels) >= 1


def test_a_release_of_another_layout_is_still_refused(server: Server, bundle: Bundle) -> None:
    features = PackedFeatures(server.stores.online_features, {USER_VIEW: FeatureLayout.of(["other"])})
    features.write_matrix(USER_VIEW, ["ann"], np.ones((1, 1), np.float32), 0)
    with pytest.raises(LayoutMismatch, match="materialise again"):
        server.releases.use(bundle, "again")

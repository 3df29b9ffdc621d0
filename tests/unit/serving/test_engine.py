"""A feed comes whole and in time whatever fails, and a release is swapped in without a gap."""

from dataclasses import dataclass, replace
from threading import Event as Flag

import numpy as np
import pytest

from feature_repo.packed import PackedFeatures
from feature_repo.specs import USER
from models.layout import FeatureLayout
from serving.deadlines import Trace
from serving.ranking import Ranked
from serving.rules import SWITCHABLE, FunnelConfig, Limits, Rules
from serving.watching import Watcher
from tests.support.bundles import tiny_bundle
from tests.support.videos import past_of
from upnext.errors import LayoutMismatch, NotFound, ReleaseCorrupt, ReleaseError, StoreUnavailable


class Broken:
    """Stands in for any part; every call fails."""

    def __getattr__(self, name):
        def fail(*args, **kwargs):
            raise StoreUnavailable(f"{name} is away")

        return fail


class Hanging:
    """Stands in for a retriever or ranker that does not come back until released."""

    def __init__(self):
        self.release = Flag()

    def retrieve(self, crowd, k):
        self.release.wait(20)
        raise StoreUnavailable("too late anyway")

    def rank(self, crowd, rows):
        self.release.wait(20)
        return Ranked(np.zeros(len(rows), np.float32), {})


@pytest.fixture
def hanging():
    made = Hanging()
    yield made
    made.release.set()


def with_funnel(engine, **changes):
    engine.releases.held = replace(engine.current, funnel=replace(engine.current.funnel, **changes))


def impatient(engine):
    engine.releases.config = FunnelConfig(limits=Limits(retrieve_s=0.05, rank_s=0.05))


def complete(answer, count=30):
    assert len(answer.slate) == len(answer.reasons) == count
    assert len(set(answer.slate.rows.tolist())) == count
    return answer


def test_when_the_ranker_fails_retrieval_orders_the_feed(server):
    with_funnel(server.engine, ranker=Broken())
    answer = complete(server.engine.home("ann", 30))
    assert answer.ranked is None
    assert "StoreUnavailable" in answer.trace.skipped["ranker"]
    assert 'upnext_skipped_parts_total{part="ranker",why="error"} 1.0' in server.telemetry.text().decode()


def test_when_the_ranker_hangs_the_feed_comes_without_it(server, hanging):
    impatient(server.engine)
    with_funnel(server.engine, ranker=hanging)
    assert complete(server.engine.home("ann", 30)).trace.skipped["ranker"].startswith("late")


@pytest.mark.parametrize("name", ["als", "trending", "new", "search"])
def test_a_retriever_that_fails_is_named_and_missed_little(server, name):
    with_funnel(server.engine, retrievers={**server.engine.current.funnel.retrievers, name: Broken()})
    answer = complete(server.engine.home("ann", 30))
    assert list(answer.trace.skipped) == [name]


def test_a_retriever_that_hangs_is_left_behind(server, hanging):
    impatient(server.engine)
    with_funnel(server.engine, retrievers={**server.engine.current.funnel.retrievers, "topics": hanging})
    assert complete(server.engine.home("ann", 30)).trace.skipped["topics"].startswith("late")


def test_when_everything_fails_popular_videos_are_shown(server):
    funnel = server.engine.current.funnel
    with_funnel(server.engine, ranker=Broken(), retrievers=dict.fromkeys(funnel.retrievers, Broken()))
    answer = complete(server.engine.home("ann", 30))
    assert {reason.code for reason in answer.reasons} <= {"popular", "explore"}
    assert set(answer.trace.skipped) == {*funnel.retrievers, "ranker"}


def test_a_request_has_one_budget_for_all_its_parts(server, hanging):
    """The viewer's reads use it up, so nothing else is begun, and popular videos are shown."""
    limits = Limits(request_s=0.05, viewer_s=30, retrieve_s=30, rank_s=30)
    server.releases.configure(FunnelConfig(limits=limits))
    loaded = server.engine.current
    stores = replace(loaded.stores, features=lambda user_id: hanging.rank(None, []))
    server.releases.held = replace(loaded, stores=stores)
    answer = complete(server.engine.home("ann", 30))
    skipped = answer.trace.skipped
    assert skipped["user_features"].startswith("late: took longer than ")
    assert {skipped[part] for part in ("ranker", "viewer_vectors", *loaded.funnel.retrievers)} == {
        "late: no time was left"
    }
    assert {reason.code for reason in answer.reasons} <= {"popular", "explore"}


def test_what_is_popular_in_the_region_stands_in_for_what_is_personal(server):
    """When no retriever answers and nothing is ranked, the region's trending list does, in its order."""
    loaded = server.engine.current
    broken = dict.fromkeys(loaded.funnel.retrievers, Broken())
    plain = replace(loaded.funnel.config, rules=Rules(off=frozenset(SWITCHABLE)))
    with_funnel(server.engine, ranker=Broken(), retrievers=broken, config=plain)
    answer = complete(server.engine.home("ann", 20, region="SE"), 20)
    regional = loaded.funnel.trending.top("SE")[0]
    assert answer.slate.rows.tolist() == regional[:20].tolist()
    assert answer.slate.rows.tolist() != loaded.funnel.trending.top(None)[0][:20].tolist()


def test_a_list_of_the_release_stands_in_where_nothing_is_popular(server):
    """When there are no counts at all, the newest videos that the release knows are shown."""
    loaded = server.engine.current

    class Nothing:
        def top(self, region):
            return np.empty(0, np.int32), np.empty(0, np.float32)

        def knows(self, region):
            return False

    broken = dict.fromkeys(loaded.funnel.retrievers, Broken())
    plain = replace(loaded.funnel.config, rules=Rules(off=frozenset(SWITCHABLE)))
    changes = {"ranker": Broken(), "retrievers": broken, "config": plain, "trending": Nothing()}
    with_funnel(server.engine, **changes)
    answer = complete(server.engine.home("ann", 20), 20)
    catalogue, restricted = loaded.bundle.catalogue, loaded.funnel.inventory.restricted
    newest = [
        row for row in range(len(catalogue) - 1, -1, -1) if catalogue.active[row] and not restricted[row]
    ]
    assert answer.slate.rows.tolist() == newest[:20]


@pytest.mark.parametrize("part", ["history", "profiles", "features"])
def test_a_store_that_is_away_costs_only_what_it_knows(server, part):
    loaded = server.engine.current
    broken = Broken().read if part == "features" else Broken()
    server.releases.held = replace(loaded, stores=replace(loaded.stores, **{part: broken}))
    answer = complete(server.engine.home("ann", 30))
    name = {"profiles": "profile", "features": "user_features"}.get(part, part)
    assert list(answer.trace.skipped) == [name]


def test_trending_does_not_need_the_ranker_or_the_stores(server):
    with_funnel(server.engine, ranker=Broken())
    answer = complete(server.engine.trending("SE", "ann", 20), 20)
    assert answer.trace.skipped == {} and answer.viewer.user_id == ""


def test_trending_is_in_the_order_of_popularity(server):
    answer = server.engine.trending("SE", None, 5)
    scores = server.engine.current.bundle.popularity.scores("SE")
    assert answer.slate.rows.tolist() == np.argsort(-scores)[:5].tolist()


def test_a_request_keeps_its_release_through_a_swap(server, tmp_path):
    other = tiny_bundle(tmp_path, videos=40, seed=1)
    engine = server.engine
    held = engine.current

    class Swapping:
        def rank(self, crowd, rows):
            engine.releases.use(other, "two")
            return held.funnel.ranker.rank(crowd, rows)

    with_funnel(engine, ranker=Swapping())
    answer = complete(engine.home("ann", 30))
    assert answer.release.version == held.version
    assert engine.home("ann", 30).release.version == "two"


def test_user_features_are_read_in_the_releases_layout(server):
    layouts = server.engine.current.bundle.manifest.layouts
    packed = PackedFeatures(server.stores.online_features, layouts)
    rows = np.arange(layouts[USER.name].width, dtype=np.float32)[None]
    packed.write_matrix(USER.name, ["ann"], rows, 0)
    answer = server.engine.home("ann", 5)
    assert answer.viewer.features.tolist() == rows[0].tolist()


def test_a_store_in_another_layout_refuses_the_release(server, bundle):
    features = server.stores.online_features
    PackedFeatures(features, {USER.name: FeatureLayout.of(["height"])}).write_matrix(
        USER.name, ["ann"], np.ones((1, 1), np.float32), 0
    )
    with pytest.raises(LayoutMismatch):
        server.releases.use(bundle, "again")
    assert server.engine.current.version != "again"


def test_a_release_that_scores_nan_is_not_used(server, bundle):
    class Nan:
        schema = bundle.scorer.schema

        def score(self, *blocks):
            return {name: np.full(len(blocks[1]), np.nan, np.float32) for name in bundle.scorer.heads}

    with pytest.raises(ReleaseError, match="nan"):
        server.releases.use(replace(bundle, scorer=Nan()), "nan")


def test_without_the_evidence_a_video_scores_lower(server):
    """Reasons are true: the video that is named did speak for the one that is shown."""

    def feed(*watched):
        past = past_of(list(watched))
        engine = server.engine
        engine.viewer = lambda release, user_id, trace, **asked: replace(stranger, past=past)
        answer = engine.home("ann", 30)
        return answer, dict(zip(answer.pool.rows.tolist(), answer.ranked.utility.tolist(), strict=True))

    stranger = server.engine.viewer(server.engine.current, None, Trace())
    answer, scores = feed(3, 10)
    reasons = dict(zip(answer.slate.rows.tolist(), answer.reasons, strict=True))
    named = {row: why.because_of for row, why in reasons.items() if why.code == "because_you_watched"}
    assert set(named.values()) == {"v003", "v010"}
    without = {"v003": feed(10)[1], "v010": feed(3)[1]}
    assert all(without[because_of][row] < scores[row] for row, because_of in named.items())


@dataclass
class Registry:
    """A registry whose champion a test moves."""

    versions: dict
    champion: str | None = None

    def version(self, alias):
        return self.champion

    def resolve(self, ref):
        if self.champion is None:
            raise NotFound("no champion yet")
        return self.versions[self.champion]


@dataclass
class Found:
    version: str
    path: object


def test_the_watcher_follows_the_champion_and_refuses_what_is_broken(tmp_path):
    one, two = tiny_bundle(tmp_path), tiny_bundle(tmp_path, seed=2)
    (two.folder / "ranker" / "ranker.onnx").write_bytes(b"cut")
    registry = Registry({"1": Found("1", one.folder), "2": Found("2", two.folder)})
    used, outcomes = [], []
    watcher = Watcher(registry, "champion", lambda bundle, version: used.append(version), outcomes.append)
    watcher.look()
    assert (used, watcher.serving) == ([], "") and "no champion" in watcher.failing
    registry.champion = "1"
    watcher.look()
    watcher.look()
    assert (used, watcher.serving, watcher.failing) == (["1"], "1", "")
    registry.champion = "2"
    watcher.look()
    watcher.look()
    assert (used, watcher.serving) == (["1"], "1") and "ranker.onnx" in watcher.failing
    assert outcomes == ["refused", "swapped", "refused"]
    with pytest.raises(ReleaseCorrupt):
        from models.bundle import Bundle

        Bundle.load(two.folder)

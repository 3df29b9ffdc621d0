"""The service without the web: the release in use, the viewer's data, and one request through the funnel."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_repo.packed import PackedFeatures, spec_defaults
from feature_repo.rows import RowSnapshots
from feature_repo.specs import USER_VIEW, VIDEO_VIEW
from models.bundle import Bundle
from models.history import Histories
from serving.ads import DEADLINE_S, Ad, AdRequest, AdServer, HouseAds, wanted, with_ads
from serving.candidates import Candidates, Pool
from serving.clock import Clock, microseconds, wall_clock
from serving.deadlines import Deadlines, Trace
from serving.exposure import LiveExposure, Seen
from serving.funnel import RELATED, Funnel, build
from serving.postrank import HOME, SHELF, Slate
from serving.ranking import BundleRanker, Ranked
from serving.reasons import explain
from serving.rules import FunnelConfig
from serving.shown import ShownLately
from serving.streams import Publisher, Streams
from serving.telemetry import Telemetry
from serving.trending import LiveCounts
from serving.video_features import FreshFeatures
from serving.viewer import SEEN, Crowd, Viewer, ViewerStores, put_together
from upnext.contracts import Reason
from upnext.errors import NotFound, ReleaseError, StoreError
from upnext.ports import OnlineFeatures, Profiles, WatchHistory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """One release ready to serve: a request takes it once and keeps it to its end."""

    version: str
    funnel: Funnel
    clock: Clock
    stores: ViewerStores
    features: PackedFeatures

    @property
    def bundle(self) -> Bundle:
        return self.funnel.bundle


@dataclass(frozen=True)
class Answer:
    """What one request gave, still in rows: the API turns rows into ids and columns."""

    request_id: str
    surface: str
    viewer: Viewer
    release: Loaded
    slate: Slate
    pool: Pool
    reasons: list[Reason]
    ranked: Ranked | None
    ads: Mapping[int, Ad] = field(default_factory=dict)
    """Final position -> ad; the slate's videos take the positions between them."""
    trace: Trace = field(default_factory=Trace)

    @property
    def positions(self) -> NDArray[np.int64]:
        """int64[m], final position of each video of the slate."""
        return np.setdiff1d(np.arange(len(self.slate) + len(self.ads)), list(self.ads))


class Engine:
    """Answers requests with the current release; a new one is loaded beside it and swapped in at once."""

    def __init__(
        self,
        history: WatchHistory,
        profiles: Profiles,
        online_features: OnlineFeatures,
        telemetry: Telemetry | None = None,
        config: FunnelConfig | None = None,
        deadlines: Deadlines | None = None,
        ad_server: AdServer | None = None,
        rows: Path | None = None,
        near_mb: int = 0,
    ) -> None:
        """``rows``: state folder where newer video features appear; ``near_mb``: as in PackedFeatures."""
        self.telemetry = telemetry or Telemetry()
        self.live = LiveCounts()
        self.exposure = LiveExposure()
        self.shown = ShownLately()
        self.streams = Streams()
        self._history, self._profiles, self._features = history, profiles, online_features
        self._rows, self._near_mb = rows, near_mb
        self._config = config or FunnelConfig()
        self._ad_server = ad_server or HouseAds(())
        self._deadlines = deadlines or Deadlines(on_skip=self.telemetry.skip)
        self._current: Loaded | None = None

    @property
    def current(self) -> Loaded:
        """The release in use; ReleaseError while none is loaded."""
        if self._current is None:
            raise ReleaseError("no release is loaded yet: run `upnext cycle --data SOURCE`, or wait a moment")
        return self._current

    @property
    def ready(self) -> bool:
        return self._current is not None

    def use(self, bundle: Bundle, version: str) -> None:
        """Make a bundle the one that answers, after it answered once for nobody in particular."""
        clock = Clock.of(bundle.manifest.as_of, bundle.manifest.made_at)
        features = PackedFeatures(
            self._features,
            bundle.manifest.layouts,
            now=lambda: microseconds(clock.now()),
            on_lack=self.telemetry.lack,
            near_mb=self._near_mb,
        )
        try:
            loaded = self._load(bundle, version, clock, features)
        except BaseException:
            features.close()
            raise
        before, self._current = self._current, loaded
        self.telemetry.near.caches = features.near
        if before is not None:
            self.telemetry.release.labels(before.version).set(0)
            before.features.close()
        self.telemetry.release.labels(version).set(1)

    def _load(self, bundle: Bundle, version: str, clock: Clock, features: PackedFeatures) -> Loaded:
        try:
            features.require(USER_VIEW)
        except StoreError as error:  # it may be back before the next release is
            log.warning("release %s is used without a look at the online store: %s", version, error)
        stores = ViewerStores(
            self._history, self._profiles, lambda user_id: features.read_one(USER_VIEW, user_id)
        )
        layout = bundle.manifest.layouts[VIDEO_VIEW]
        snapshots = None
        if self._rows is not None:
            snapshots = RowSnapshots(self._rows, VIDEO_VIEW, layout, bundle.catalogue.digest)
        videos = FreshFeatures(bundle, snapshots, features, self.telemetry.fall_back)
        ranker = BundleRanker(bundle, self.streams.reader(bundle.catalogue), videos)
        as_of = microseconds(bundle.manifest.as_of)
        exposure = self.exposure.onto(bundle.exposure, bundle.catalogue, as_of)
        funnel = build(bundle, ranker, self.live, self._config, exposure)
        loaded = Loaded(version, funnel, clock, stores, features)
        self._warm(loaded)
        return loaded

    def count_live(self, events: pa.Table) -> None:
        """Count events (in the release's time) towards all that is kept in memory."""
        if self._current is not None:
            catalogue, inventory = self._current.bundle.catalogue, self._current.funnel.inventory
            seen = Seen.of(events, catalogue)
            self.live.add(events, catalogue)
            self.exposure.add(seen, catalogue)
            inventory.expose(seen.rows, seen.well)
            self.shown.add(events)
            self.streams.add(events, self.now_us())

    def recount(self, events: pa.Table) -> None:
        """Count events towards the real-time features alone, which are not kept over a restart."""
        self.streams.add(events, self.now_us())

    def publisher(self) -> Publisher:
        """Brings the real-time features to the online store."""
        return Publisher(self.streams, self._features, self.now_us)

    def now_us(self) -> int:
        """The release's time in µs; the wall clock's while there is none."""
        return microseconds(self._current.clock.now() if self._current else wall_clock())

    def offset_us(self) -> int:
        """What is added to the wall clock's times to get the release's."""
        return self._current.clock.offset_us if self._current else 0

    def viewer(self, release: Loaded, user_id: str | None, trace: Trace, **asked: Any) -> Viewer:
        """Who asks; unknown and anonymous viewers are strangers, of whom only what they ask is known."""
        now = release.clock.now()
        catalogue, unknown = release.bundle.catalogue, self._unknown(release)
        found: dict[str, Any] = {}
        if user_id:
            limit = self._config.limits.retrieve_s
            with trace.timed("viewer"):
                found = self._deadlines.gather(release.stores.reads(user_id, now), limit, trace)
        viewer = put_together(user_id or "", found, catalogue, now, unknown)
        passed, age_s = self.shown.of(viewer.user_id, catalogue, viewer.now)
        asked |= {"passed": passed, "passed_age_s": age_s}
        return viewer.asking(**{name: value for name, value in asked.items() if value is not None})

    def home(self, user_id: str | None, count: int, **asked: Any) -> Answer:
        """A personal feed."""
        release, trace = self.current, Trace()
        viewer = self.viewer(release, user_id, trace, **asked)
        return self._answer(release, viewer, "home", count, list(release.funnel.retrievers), trace)

    def related(self, video_id: str, user_id: str | None, count: int, **asked: Any) -> Answer:
        """What goes well with a video; NotFound when nobody knows that video."""
        release, trace = self.current, Trace()
        seed = int(release.bundle.catalogue.rows([video_id])[0])
        if seed < 0:
            raise NotFound(
                f"video_id is {video_id!r}, which release {release.version} does not know: "
                "send the id of a video in the catalogue"
            )
        viewer = self.viewer(release, user_id, trace, seed=seed, surface="related", **asked)
        return self._answer(release, viewer, "related", count, RELATED, trace)

    def trending(self, region: str | None, count: int, **asked: Any) -> Answer:
        """What is watched most, not personal."""
        release, trace = self.current, Trace()
        viewer = self.viewer(release, None, trace, region=region, surface="trending", **asked)
        return self._answer(release, viewer, "trending", count, ("trending",), trace, personal=False)

    def close(self) -> None:
        self._deadlines.close()
        self._ad_server.close()
        if self._current is not None:
            self._current.features.close()

    def _answer(
        self,
        release: Loaded,
        viewer: Viewer,
        surface: str,
        count: int,
        sources: Sequence[str],
        trace: Trace,
        personal: bool = True,
    ) -> Answer:
        funnel, request_id = release.funnel, str(uuid4())
        asked = self._ask_for_ads(request_id, surface, count, viewer, trace)
        with trace.timed("retrieve"):
            crowd = self._crowd(funnel, viewer, trace) if personal else funnel.anonymous([viewer])
            found = self._retrieve(funnel, crowd, sources, trace)
            situation = funnel.situation(viewer, count, seed=crc32(request_id.encode()))
            pool = funnel.pool(viewer, found, situation)
        trace.counts |= {name: len(each) for name, each in found.items()} | {"pool": len(pool)}
        ranked = None
        if personal:
            with trace.timed("rank"):
                ranked = self._rank(funnel, crowd, pool, trace)
        with trace.timed("post_rank"):
            rules = HOME if surface == "home" else SHELF
            slate = funnel.slate(pool, ranked, viewer, situation, rules)
            ads = self._deadlines.finish(asked, DEADLINE_S, trace).get("ads", [])
            slate, placed = with_ads(slate, ads, count, funnel.inventory.restricted, self._config.ads)
        with trace.timed("explain"):
            known = viewer.region is not None and funnel.trending.knows(viewer.region)
            told = viewer if known else viewer.asking(region=None)
            reasons = explain(slate, pool, told, release.bundle.catalogue, funnel.evidence)
        for stage, took in trace.timings_ms.items():
            self.telemetry.stages.labels(stage).observe(took / 1e3)
        return Answer(request_id, surface, viewer, release, slate, pool, reasons, ranked, placed, trace)

    def _ask_for_ads(
        self, request_id: str, surface: str, count: int, viewer: Viewer, trace: Trace
    ) -> dict[str, Future[list[Ad]]]:
        """Ads on their way, while the videos are found and ranked."""
        places = wanted(count, surface, viewer.kids, self._config.ads)
        if not places:
            return {}
        request = AdRequest(request_id, surface, places, viewer.region, viewer.device)
        return self._deadlines.begin({"ads": lambda: self._ad_server.ads(request)}, trace)

    def _crowd(self, funnel: Funnel, viewer: Viewer, trace: Trace) -> Crowd:
        part: dict[str, Callable[[], Crowd]] = {"viewer_vectors": lambda: funnel.crowd([viewer])}
        made = self._deadlines.gather(part, self._config.limits.retrieve_s, trace)
        return made.get("viewer_vectors") or funnel.anonymous([viewer])

    def _retrieve(
        self, funnel: Funnel, crowd: Crowd, sources: Sequence[str], trace: Trace
    ) -> dict[str, Candidates]:
        limits = self._config.limits

        def asking(name: str) -> Callable[[], Candidates]:
            return lambda: funnel.retrievers[name].retrieve(crowd, limits.per_retriever)[0]

        return self._deadlines.gather({name: asking(name) for name in sources}, limits.retrieve_s, trace)

    def _rank(self, funnel: Funnel, crowd: Crowd, pool: Pool, trace: Trace) -> Ranked | None:
        part = {"ranker": lambda: funnel.ranker.rank(crowd, pool.rows)}
        return self._deadlines.gather(part, self._config.limits.rank_s, trace).get("ranker")

    def _warm(self, loaded: Loaded) -> None:
        """Run the whole funnel once without deadlines, so that the first viewer does not wait for tables."""
        funnel, now = loaded.funnel, microseconds(loaded.clock.now())
        past = Histories.empty(1, SEEN)
        videos = len(loaded.bundle.catalogue)
        past.rows[0, : min(5, videos)] = np.arange(min(5, videos))
        past.strength[0, : min(5, videos)] = 1.0
        viewer = Viewer("", now, past, self._unknown(loaded))
        crowd = funnel.crowd([viewer])
        found = {name: each.retrieve(crowd, 300)[0] for name, each in funnel.retrievers.items()}
        pool = funnel.pool(viewer, found, funnel.situation(viewer, 30))
        ranked = funnel.ranker.rank(crowd, pool.rows)
        if not np.isfinite(ranked.utility).all():
            raise ReleaseError(f"release {loaded.version} scores videos nan: it is not used; train again")

    @staticmethod
    def _unknown(release: Loaded) -> NDArray[np.float32]:
        layout = release.bundle.manifest.layouts[USER_VIEW]
        return spec_defaults(USER_VIEW, layout)

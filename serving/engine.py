"""The service without the web: the release in use, the viewer's data, and one request through the funnel."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import pyarrow as pa

from feature_repo.packed import PackedFeatures
from feature_repo.rows import RowSnapshots
from feature_repo.specs import USER_VIEW, VIDEO_VIEW
from models.bundle import Bundle
from serving import logs, shelves, tracing
from serving.ads import DEADLINE_S, Ad, AdRequest, AdServer, HouseAds, wanted, with_ads
from serving.answer import Answer
from serving.breakers import Breakers
from serving.candidates import Candidates, Pool
from serving.clock import Clock, wall_clock
from serving.deadlines import Deadlines, Running, Trace
from serving.experiments.board import Board
from serving.experiments.exposure import Outcome
from serving.exposure import LiveExposure, Seen
from serving.funnel import Funnel, build
from serving.growth import Growth
from serving.guarded_features import GuardedFeatures
from serving.loaded import Loaded
from serving.paging import FIRST, Page
from serving.ranking import BundleRanker, Ranked
from serving.reasons import explain
from serving.retrievers import favourites
from serving.rules import FunnelConfig, Limits
from serving.shelves import Shelf
from serving.shown import ShownLately
from serving.standing import Standing
from serving.streams import Publisher, Streams
from serving.telemetry import Telemetry
from serving.trending import LiveCounts
from serving.uploads import Uploads
from serving.video_features import FreshFeatures
from serving.viewer import Crowd, Viewer, ViewerStores, put_together
from upnext.errors import NotFound, ReleaseError, StoreError, UpnextError
from upnext.ports import OnlineFeatures, Profiles, WatchHistory
from upnext.times import microseconds

T = TypeVar("T")
STORES = {"history": "history", "profile": "profiles"}
"""Part of a viewer -> the store that it is read from; that of its features has its breaker inside."""
log = logging.getLogger(__name__)


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
        uploads: Uploads | None = None,
        on_standing: Callable[[Standing], None] = lambda standing: None,
    ) -> None:
        """
        Parameters
        ----------
        rows
            State folder where newer video features appear.
        near_mb
            Megabytes kept in this process of what the online store said of videos and users.
        uploads
            Videos that came after the release; none by default.
        on_standing
            Hears of each release's videos before it serves, to bar some of them.
        """
        self.telemetry = telemetry or Telemetry()
        self.live = LiveCounts()
        self.exposure = LiveExposure()
        self.shown = ShownLately()
        self.streams = Streams()
        self.experiments = Board()
        self._history, self._profiles, self._features = history, profiles, online_features
        self._rows, self._near_mb = rows, near_mb
        self._config = config or FunnelConfig()
        self._on_standing = on_standing
        self._uploads, self._growing = uploads, Lock()
        self._growth: Growth | None = None
        self._ad_server = ad_server or HouseAds(())
        self.breakers = Breakers(self.telemetry.registry)
        self._deadlines = deadlines or Deadlines(on_skip=self.telemetry.skip)
        self._guarded_features = GuardedFeatures(
            online_features, self.breakers.of("online_features"), lambda: self.limits.features_s
        )
        self._reads = Deadlines(on_skip=self.telemetry.skip)  # parts of parts, which must not wait for theirs
        self._current: Loaded | None = None

    @property
    def current(self) -> Loaded:
        """The release in use; ReleaseError while none is loaded."""
        if self._current is None:
            raise ReleaseError("no release is loaded yet: run `upnext cycle --data SOURCE`, or wait a moment")
        return self._current

    @property
    def limits(self) -> Limits:
        """Those in force."""
        return self._config.limits

    @property
    def ready(self) -> bool:
        return self._current is not None

    def use(self, bundle: Bundle, version: str) -> None:
        """Make a bundle the one that answers, after it answered once for nobody in particular."""
        growth = self.growth(bundle, version)
        with self._growing:
            try:
                if self._uploads is not None:
                    self._uploads.refresh()
            except UpnextError as error:  # new videos may wait, a release does not
                log.warning("no word of videos newer than release %s: %s", version, error)
            loaded = _grown(growth)
            before, self._current, self._growth = self._current, loaded, growth
        self.telemetry.near.caches = loaded.features.near
        if before is not None:
            self.telemetry.release.labels(before.version).set(0)
            before.features.close()
        self.telemetry.release.labels(version).set(1)

    def renew(self) -> None:
        """Serve the videos that the platform told of since the last time, too."""
        if self._uploads is not None:
            self._uploads.refresh()
        with self._growing:
            if self._growth is not None:
                self._current = self._growth.now()

    def growth(self, bundle: Bundle, version: str) -> Growth:
        """A bundle as :meth:`prepare` has it, to be grown by videos that came after it."""
        if self._uploads is not None:
            self._uploads.follow(bundle.catalogue, bundle.manifest.as_of)
        loaded = self.prepare(bundle, version)
        return Growth(loaded, self._uploads, self.exposure, self.streams, self._on_standing)

    def prepare(self, bundle: Bundle, version: str) -> Loaded:
        """A bundle ready to answer beside the current one, after it answered once for nobody."""
        clock = Clock.of(bundle.manifest.as_of, bundle.manifest.made_at)
        features = PackedFeatures(
            self._guarded_features,
            {view: bundle.manifest.layouts[view] for view in (USER_VIEW, VIDEO_VIEW)},
            now=lambda: microseconds(clock.now()),
            on_lack=self.telemetry.lack,
            near_mb=_shared_out(self._near_mb),
        )
        try:
            return self._load(bundle, version, clock, features)
        except BaseException:
            features.close()
            raise

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
        videos = FreshFeatures(bundle, snapshots, features, self._read_features, self.telemetry.fall_back)
        live = self.streams.reader(bundle.catalogue)
        ranker = BundleRanker(bundle, live, videos, self._config.weights)
        as_of = microseconds(bundle.manifest.as_of)
        exposure = self.exposure.follow(bundle.exposure, bundle.catalogue, as_of)
        funnel = build(bundle, ranker, self.live, self._config, exposure)
        loaded = Loaded(version, funnel, clock, stores, features)
        loaded.warm()
        self._on_standing(loaded.funnel.standing)
        return loaded

    def configure(self, config: FunnelConfig) -> None:
        """Serve with other parameters from the next request on; those that are being answered keep theirs."""
        self._config = config
        with self._growing:
            if self._growth is not None:
                self._growth.configure(config)
                self._current = _grown(self._growth)

    def count_live(self, events: pa.Table) -> None:
        """Count events (in the release's time) towards all that is kept in memory."""
        current = self._current
        if current is not None:
            catalogue = current.bundle.catalogue
            self.live.add(events, catalogue)
            self.exposure.add(Seen.of(events, catalogue), catalogue)
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

    def viewer(
        self, release: Loaded, user_id: str | None, trace: Trace, personal: bool = True, **asked: Any
    ) -> Viewer:
        """Who asks; unknown and anonymous viewers are strangers, of whom only what they ask is known.

        Where the answer is not ``personal``, nobody in particular, under the rules of the viewer's profile.
        """
        now = release.clock.now()
        catalogue, unknown = release.bundle.catalogue, release.unknown
        found: dict[str, Any] = {}
        if user_id:
            limit = self._config.limits.viewer_s
            reads = {
                part: self.breakers.guarded(STORES[part], read, limit) if part in STORES else read
                for part, read in release.stores.reads(user_id, now).items()
                if personal or part == "profile"
            }
            with trace.timed("viewer"):
                found = self._deadlines.gather(reads, limit, trace)
        viewer = put_together(user_id or "" if personal else "", found, catalogue, now, unknown)
        if not personal:
            viewer = viewer.asking(region=None, lives_in=viewer.region)
        passed, age_s = self.shown.of(viewer.user_id, catalogue, viewer.now)
        asked |= {"passed": passed, "passed_age_s": age_s}
        return viewer.asking(**{name: value for name, value in asked.items() if value is not None})

    def home(self, user_id: str | None, count: int, page: Page = FIRST, **asked: Any) -> Answer:
        """A personal feed."""
        release, trace = self.current, self._trace()
        viewer = self.viewer(release, user_id, trace, **asked)
        return self._answer(release, viewer, shelves.HOME, count, page, trace)

    def related(
        self, video_id: str, user_id: str | None, count: int, page: Page = FIRST, **asked: Any
    ) -> Answer:
        """What goes well with a video; NotFound when nobody knows that video."""
        return self._beside(shelves.RELATED, video_id, user_id, count, page, **asked)

    def end_screen(
        self, video_id: str, user_id: str | None, count: int, page: Page = FIRST, **asked: Any
    ) -> Answer:
        """What to watch when a video has ended: beside the video, and by the viewer's taste."""
        return self._beside(shelves.END_SCREEN, video_id, user_id, count, page, **asked)

    def because_you_watched(
        self, video_id: str | None, user_id: str | None, count: int, page: Page = FIRST, **asked: Any
    ) -> Answer:
        """Neighbours of a video of the viewer's past, of the one liked best where none is named.

        Empty for a viewer who has watched nothing yet: there is nothing that it could be because of.
        """
        release, trace = self.current, self._trace()
        shelf = shelves.BECAUSE_YOU_WATCHED
        viewer = self.viewer(release, user_id, trace, surface=shelf.name, **asked)
        liked = favourites(viewer, 1)[0]
        seed = release.row(video_id) if video_id else int(liked[0]) if len(liked) else -1
        about = str(release.bundle.catalogue.named(np.asarray([seed]))[0]) if seed >= 0 else None
        return self._answer(release, viewer.asking(seed=seed), shelf, count, page, trace, about)

    def topic(self, topic: str, user_id: str | None, count: int, page: Page = FIRST, **asked: Any) -> Answer:
        """The videos of a category, for this viewer; NotFound when the catalogue has no such category."""
        release, trace = self.current, self._trace()
        if topic not in release.bundle.catalogue.categories:
            raise NotFound(f"topic is {topic!r}, which is no category of release {release.version}")
        shelf = shelves.TOPIC
        viewer = self.viewer(release, user_id, trace, surface=shelf.name, topics=(topic,), **asked)
        return self._answer(release, viewer, shelf, count, page, trace, topic)

    def new_releases(self, user_id: str | None, count: int, page: Page = FIRST, **asked: Any) -> Answer:
        """The latest uploads, for this viewer."""
        release, trace = self.current, self._trace()
        viewer = self.viewer(release, user_id, trace, surface="new_releases", **asked)
        return self._answer(release, viewer, shelves.NEW_RELEASES, count, page, trace)

    def trending(
        self, region: str | None, user_id: str | None, count: int, page: Page = FIRST, **asked: Any
    ) -> Answer:
        """What is watched most, not personal; without what may not be shown to this viewer."""
        release, trace = self.current, self._trace()
        asked |= {"region": region, "surface": shelves.TRENDING.name}
        viewer = self.viewer(release, user_id, trace, personal=False, **asked)
        return self._answer(release, viewer, shelves.TRENDING, count, page, trace)

    def search(self, query: str, user_id: str | None, count: int, page: Page = FIRST, **asked: Any) -> Answer:
        """The videos that match some words, those that this viewer likes first among equals."""
        release, trace = self.current, self._trace()
        viewer = self.viewer(release, user_id, trace, surface="search", query=query, **asked)
        return self._answer(release, viewer, shelves.SEARCH, count, page, trace, query)

    def close(self) -> None:
        self._deadlines.close()
        self._reads.close()
        self._ad_server.close()
        if self._current is not None:
            self._current.features.close()

    def _beside(
        self, shelf: Shelf, video_id: str, user_id: str | None, count: int, page: Page, **asked: Any
    ) -> Answer:
        release, trace = self.current, self._trace()
        seed = release.row(video_id)
        viewer = self.viewer(release, user_id, trace, seed=seed, surface=shelf.name, **asked)
        return self._answer(release, viewer, shelf, count, page, trace, video_id)

    def _answer(
        self,
        release: Loaded,
        viewer: Viewer,
        shelf: Shelf,
        count: int,
        page: Page,
        trace: Trace,
        about: str | None = None,
    ) -> Answer:
        release, funnel, viewer, joined = self.experiments.join(release, viewer, shelf.name)
        request_id = logs.request_id()
        tracing.note(request_id=request_id, surface=shelf.name, release=release.version)
        asked = self._ask_for_ads(request_id, shelf.name, count, viewer, trace)
        with trace.timed("retrieve"):
            crowd = self._crowd(funnel, viewer, trace) if shelf.personal else funnel.anonymous([viewer])
            found = self._retrieve(funnel, crowd, shelf, trace)
            seed = crc32(request_id.encode()) if page.seed is None else page.seed
            situation = funnel.situation(viewer, count, seed, release.left_out(page))
            pool = funnel.pool(viewer, found, situation, filled=shelf.filled, unseen=shelf.unseen)
        trace.counts |= {name: len(each) for name, each in found.items()} | {"pool": len(pool)}
        ranked = None
        if shelf.personal:
            with trace.timed("rank"):
                ranked = self._rank(funnel, crowd, pool, trace)
        with trace.timed("post_rank"):
            slate = funnel.slate(pool, ranked, viewer, situation, shelf.rules, shelf.matches(found))
            if joined.picks:
                outcome = Outcome(viewer, shelf, found, situation, pool, ranked, slate)
                self.experiments.expose(joined, outcome)
            ads = self._deadlines.finish(asked, trace).get("ads", []) if asked else []
            slate, placed = with_ads(slate, ads, count, funnel.inventory.restricted, self._config.ads)
        with trace.timed("explain"):
            known = viewer.region is not None and funnel.trending.knows(viewer.region)
            told = viewer if known else viewer.asking(region=None)
            reasons = explain(slate, pool, told, release.bundle.catalogue, funnel.evidence)
        for stage, took in trace.timings_ms.items():
            self.telemetry.stages.labels(stage).observe(took / 1e3)
        tried = joined.variants
        if tried:
            self.telemetry.tried(tried, sum(trace.timings_ms.values()) / 1e3, whole=not trace.skipped)
        return Answer(
            request_id, shelf.name, viewer, release, slate, pool, reasons, ranked, placed, trace, about, tried
        )

    def _ask_for_ads(
        self, request_id: str, surface: str, count: int, viewer: Viewer, trace: Trace
    ) -> Running[list[Ad]] | None:
        """Ads on their way, while the videos are found and ranked; None where there are to be none."""
        places = wanted(count, surface, viewer.kids, self._config.ads)
        if not places:
            return None
        request = AdRequest(request_id, surface, places, viewer.region, viewer.device)
        ask: Callable[[], list[Ad]] = partial(self._ad_server.ads, request)
        if not isinstance(self._ad_server, HouseAds):
            ask = self.breakers.guarded("ads", ask, DEADLINE_S)
        return self._deadlines.begin({"ads": ask}, DEADLINE_S, trace)

    def _trace(self) -> Trace:
        """Of a request that begins now."""
        return Trace.within(self._config.limits.request_s)

    def _read_features(self, read: Callable[[], T]) -> T | str:
        """What the online store has of videos, or why there is nothing, as part of the request that asks."""
        limit, trace = self._config.limits.features_s, Trace.current()
        found = self._reads.gather({"video_features": read}, limit, trace)
        return found["video_features"] if found else trace.skipped["video_features"]

    def _crowd(self, funnel: Funnel, viewer: Viewer, trace: Trace) -> Crowd:
        part: dict[str, Callable[[], Crowd]] = {"viewer_vectors": lambda: funnel.crowd([viewer])}
        made = self._deadlines.gather(part, self._config.limits.retrieve_s, trace)
        return made.get("viewer_vectors") or funnel.anonymous([viewer])

    def _retrieve(self, funnel: Funnel, crowd: Crowd, shelf: Shelf, trace: Trace) -> dict[str, Candidates]:
        limits, within_s = funnel.config.limits, self._config.limits.retrieve_s
        wanted = limits.candidates if shelf.deep else limits.per_retriever

        def asking(name: str) -> Callable[[], Candidates]:
            return lambda: funnel.retriever(name).retrieve(crowd, wanted)[0]

        sources = funnel.asked(shelf.sources or list(funnel.retrievers))
        return self._deadlines.gather({name: asking(name) for name in sources}, within_s, trace)

    def _rank(self, funnel: Funnel, crowd: Crowd, pool: Pool, trace: Trace) -> Ranked | None:
        part = {"ranker": lambda: funnel.ranker.rank(crowd, pool.rows)}
        return self._deadlines.gather(part, self._config.limits.rank_s, trace).get("ranker")


def _grown(growth: Growth) -> Loaded:
    """The release with the videos that came after it; without them where they can't be taken in."""
    try:
        return growth.now()
    except Exception as error:  # whatever is wrong with them, the release serves
        log.warning("videos newer than release %s are not served: %s", growth.base.version, error)
        return growth.base


def _shared_out(near_mb: int) -> dict[str, int]:
    """Megabytes by view: a request reads a thousand videos and one user."""
    return {VIDEO_VIEW: near_mb - near_mb // 8, USER_VIEW: near_mb // 8} if near_mb else {}

"""The service without the web: the release in use, the viewer's data, and one request through the funnel."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import pyarrow as pa

from serving import logs, shelves, tracing
from serving.ads import DEADLINE_S, Ad, AdRequest, AdServer, HouseAds, wanted, with_ads
from serving.answer import Answer
from serving.breakers import Breakers
from serving.candidates import Candidates, Pool
from serving.clock import wall_clock
from serving.deadlines import Deadlines, Running, Trace
from serving.experiments.board import Board
from serving.experiments.exposure import Outcome
from serving.exposure import Seen
from serving.funnel import Funnel
from serving.loaded import Loaded
from serving.paging import FIRST, Page
from serving.ranking import Ranked
from serving.reasons import explain
from serving.releasing import Releasing
from serving.retrievers import favourites
from serving.rules import FunnelConfig, Limits
from serving.shelves import Shelf
from serving.shown import ShownLately
from serving.streams import Publisher
from serving.telemetry import Telemetry
from serving.viewer import Crowd, Viewer, put_together
from upnext.errors import NotFound
from upnext.times import microseconds

T = TypeVar("T")
CORES = 2
"""Threads that the retrievers of a request share: the longest search beside all else."""
STORES = {"history": "history", "profile": "profiles"}
"""Part of a viewer -> the store that it is read from; that of its features has its breaker inside."""
log = logging.getLogger(__name__)


class Engine:
    """Answers requests with the current release; a new one is loaded beside it and swapped in at once."""

    def __init__(
        self,
        releases: Releasing,
        breakers: Breakers,
        telemetry: Telemetry,
        ad_server: AdServer,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.releases, self.breakers, self.telemetry = releases, breakers, telemetry
        self.live, self.exposure, self.streams = releases.live, releases.exposure, releases.streams
        self.shown = ShownLately()
        self.experiments = Board()
        self._ad_server = ad_server
        self._deadlines = deadlines or Deadlines(on_skip=telemetry.skip)

    @property
    def current(self) -> Loaded:
        """The release in use; ReleaseError while none is loaded."""
        return self.releases.current

    @property
    def ready(self) -> bool:
        return self.releases.held is not None

    @property
    def limits(self) -> Limits:
        """Those in force."""
        return self._config.limits

    @property
    def _config(self) -> FunnelConfig:
        return self.releases.config

    def count_live(self, events: pa.Table) -> None:
        """Count events (in the release's time) towards all that is kept in memory."""
        current = self.releases.held
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
        return Publisher(self.streams, self.releases.online_features, self.now_us)

    def now_us(self) -> int:
        """The release's time in µs; the wall clock's while there is none."""
        return microseconds(self.releases.held.clock.now() if self.releases.held else wall_clock())

    def offset_us(self) -> int:
        """What is added to the wall clock's times to get the release's."""
        return self.releases.held.clock.offset_us if self.releases.held else 0

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
        self._ad_server.close()
        self.releases.close()

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
        return self._deadlines.gather({name: asking(name) for name in sources}, within_s, trace, CORES)

    def _rank(self, funnel: Funnel, crowd: Crowd, pool: Pool, trace: Trace) -> Ranked | None:
        part = {"ranker": lambda: funnel.ranker.rank(crowd, pool.rows)}
        return self._deadlines.gather(part, self._config.limits.rank_s, trace).get("ranker")

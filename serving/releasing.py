"""The release in use: how one is made ready, how another takes its place, and how it grows."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

from feature_repo.packed import PackedFeatures
from feature_repo.rows import RowSnapshots
from feature_repo.specs import USER_VIEW, VIDEO_VIEW
from models.bundle import Bundle
from serving.breakers import Breaker
from serving.clock import Clock
from serving.deadlines import Deadlines, Trace
from serving.exposure import LiveExposure
from serving.funnel import build
from serving.growth import Growth
from serving.guarded_features import GuardedFeatures
from serving.loaded import Loaded
from serving.ranking import BundleRanker
from serving.rules import FunnelConfig
from serving.standing import Standing
from serving.streams import Streams
from serving.telemetry import Telemetry
from serving.trending import LiveCounts
from serving.uploads import Uploads
from serving.video_features import FreshFeatures
from serving.viewer import ViewerStores
from upnext.errors import ReleaseError, StoreError, UpnextError
from upnext.ports import OnlineFeatures, Profiles, WatchHistory
from upnext.times import microseconds

T = TypeVar("T")
log = logging.getLogger(__name__)


class Releasing:
    """Loads releases beside the one that answers, and swaps them in at once."""

    def __init__(
        self,
        history: WatchHistory,
        profiles: Profiles,
        online_features: OnlineFeatures,
        breaker: Breaker,
        telemetry: Telemetry,
        config: FunnelConfig,
        *,
        rows: Path | None = None,
        near_mb: int = 0,
        uploads: Uploads | None = None,
        on_standing: Callable[[Standing], None] = lambda standing: None,
    ) -> None:
        """
        Parameters
        ----------
        breaker
            That of the online features.
        rows
            State folder where newer video features appear.
        near_mb
            Megabytes kept in this process of what the online store said of videos and users.
        uploads
            Videos that came after the release; none by default.
        on_standing
            Hears of each release's videos before it serves, to bar some of them.
        """
        self.config = config
        self.live = LiveCounts()
        self.exposure = LiveExposure()
        self.streams = Streams()
        self.history, self.profiles, self.online_features = history, profiles, online_features
        self._telemetry, self._rows, self._near_mb = telemetry, rows, near_mb
        self._uploads, self._on_standing = uploads, on_standing
        self._features = GuardedFeatures(online_features, breaker, lambda: self.config.limits.features_s)
        self._reads = Deadlines(on_skip=telemetry.skip)  # parts of parts, which must not wait for theirs
        self._growing = Lock()
        self._growth: Growth | None = None
        self.held: Loaded | None = None
        """The release in use; None while none is loaded."""

    @property
    def current(self) -> Loaded:
        """The release in use; ReleaseError while none is loaded."""
        if self.held is None:
            raise ReleaseError("no release is loaded yet: run `upnext cycle --data SOURCE`, or wait a moment")
        return self.held

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
            before, self.held, self._growth = self.held, loaded, growth
        self._telemetry.near.caches = loaded.features.near
        if before is not None:
            self._telemetry.release.labels(before.version).set(0)
            before.features.close()
        self._telemetry.release.labels(version).set(1)

    def renew(self) -> None:
        """Serve the videos that the platform told of since the last time, too."""
        if self._uploads is not None:
            self._uploads.refresh()
        with self._growing:
            if self._growth is not None:
                self.held = self._growth.now()

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
            self._features,
            {view: bundle.manifest.layouts[view] for view in (USER_VIEW, VIDEO_VIEW)},
            now=lambda: microseconds(clock.now()),
            on_lack=self._telemetry.lack,
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
            self.history, self.profiles, lambda user_id: features.read_one(USER_VIEW, user_id)
        )
        layout = bundle.manifest.layouts[VIDEO_VIEW]
        snapshots = None
        if self._rows is not None:
            snapshots = RowSnapshots(self._rows, VIDEO_VIEW, layout, bundle.catalogue.digest)
        videos = FreshFeatures(bundle, snapshots, features, self._read_features, self._telemetry.fall_back)
        live = self.streams.reader(bundle.catalogue)
        ranker = BundleRanker(bundle, live, videos, self.config.weights)
        as_of = microseconds(bundle.manifest.as_of)
        exposure = self.exposure.follow(bundle.exposure, bundle.catalogue, as_of)
        funnel = build(bundle, ranker, self.live, self.config, exposure)
        loaded = Loaded(version, funnel, clock, stores, features)
        loaded.warm()
        self._on_standing(loaded.funnel.standing)
        return loaded

    def configure(self, config: FunnelConfig) -> None:
        """Serve with other parameters from the next request on; those that are being answered keep theirs."""
        self.config = config
        with self._growing:
            if self._growth is not None:
                self._growth.configure(config)
                self.held = _grown(self._growth)

    def close(self) -> None:
        self._reads.close()
        if self.held is not None:
            self.held.features.close()

    def _read_features(self, read: Callable[[], T]) -> T | str:
        """What the online store has of videos, or why there is nothing, as part of the request that asks."""
        limit, trace = self.config.limits.features_s, Trace.current()
        found = self._reads.gather({"video_features": read}, limit, trace)
        return found["video_features"] if found else trace.skipped["video_features"]


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

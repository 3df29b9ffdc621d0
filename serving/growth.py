"""A release grown by the videos that came after it: another :class:`Loaded`, which takes the old one's place.

The release's own tables are shared, its rows stay what they were, and new videos have the rows behind them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.specs import VIDEO_VIEW
from feature_repo.unseen import UnseenVideos
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.columns import micros
from models.exposure import Exposure
from models.grown import GrownCatalogue, GrownCrosses
from models.index import ExactIndex, FaissIndex
from models.live_index import LiveIndex
from models.stacked import Stacked
from serving.exposure import LiveExposure
from serving.funnel import Funnel, Tables, put_together
from serving.loaded import Loaded
from serving.ranking import BundleRanker
from serving.rules import FunnelConfig
from serving.search import TwoTexts
from serving.standing import Standing
from serving.streams import Streams
from serving.uploads import AlikeUploads, Uploads
from serving.video_features import OwnFeatures, WithLate
from upnext.contracts import VIDEOS, UtcTime
from upnext.times import microseconds

TOLD = ("title", "tags", "category", "creator_id", "duration_ms", "uploaded_at")
"""What a video's vectors are made of."""


@dataclass(frozen=True)
class Late:
    """m videos that came after a release, by upload time.

    vectors float32[m, D] and embeddings float32[m, E] by the video tower; neighbours int32[m, k] and their
    likeness float32[m, k], rows of the release.
    """

    catalogue: Catalogue
    vectors: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    likeness: NDArray[np.float32]

    @classmethod
    def learn(cls, videos: Catalogue, bundle: Bundle, now: int, before: "Late | None") -> Self:
        """What the release's models make of some videos; the same where they are as they were ``before``."""
        rows = np.full(len(videos), -1, np.int32) if before is None else before._unchanged(videos)
        new = np.flatnonzero(rows < 0)
        made = cls._made(Catalogue(videos.table.take(new)), bundle, now) if len(new) else None
        parts = [each for each in (before, made) if each is not None]
        place = np.where(rows >= 0, rows, len(before.catalogue) if before else 0)
        place[new] += np.arange(len(new), dtype=np.int32)

        return cls(
            catalogue=videos,
            vectors=np.concatenate([part.vectors for part in parts])[place],
            embeddings=np.concatenate([part.embeddings for part in parts])[place],
            neighbours=np.concatenate([part.neighbours for part in parts])[place],
            likeness=np.concatenate([part.likeness for part in parts])[place],
        )

    @classmethod
    def _made(cls, videos: Catalogue, bundle: Bundle, now: int) -> Self:
        vectors, embeddings = bundle.towers.encode_videos(videos, now)
        alike = np.pad(vectors[:, :-1], ((0, 0), (0, 1)))  # whatever their popularity
        k = min(bundle.neighbours.rows.shape[1], len(bundle.catalogue))
        rows, scores = bundle.tower_index.search(alike, k)
        wide = ((0, 0), (0, bundle.neighbours.rows.shape[1] - k))
        rows = np.pad(np.where(scores > 0, rows, -1), wide, constant_values=-1)
        likeness = np.pad(np.maximum(scores, 0), wide)
        return cls(videos, vectors, embeddings, rows.astype(np.int32), likeness.astype(np.float32))

    def _unchanged(self, videos: Catalogue) -> NDArray[np.int32]:
        """int32[m], where each of some videos is here; -1 where it is not, or was told of otherwise."""
        rows = self.catalogue.rows(videos.ids.tolist())
        there = np.flatnonzero(rows >= 0)
        now, then = videos.documents(there, TOLD), self.catalogue.documents(rows[there], TOLD)
        rows[[at for at, new, old in zip(there.tolist(), now, then, strict=True) if new != old]] = -1
        return rows


@dataclass
class Growth:
    """What a release has grown by so far. Not safe between threads.

    on_standing hears of the grown release's videos before it serves, to bar some of them.
    """

    base: Loaded
    uploads: Uploads | None
    exposure: LiveExposure
    streams: Streams
    on_standing: Callable[[Standing], None]
    _late: Late | None = None
    _version: int = -1
    """Of the uploads that ``_grown`` is of."""
    _grown: Loaded | None = None

    def now(self) -> Loaded:
        """The release with all uploads that it lacks, made anew only where these have changed."""
        if self.uploads is None:
            return self.base
        version = self.uploads.version
        if self._grown is None or self._version != version:
            videos = self._lacking(self.uploads.table())
            before = None if self._late is None else self._late.catalogue.table
            if self._grown is None or videos.table != before:
                self._grown, self._late = self._with(videos)
            self._version = version
        return self._grown

    def configure(self, config: FunnelConfig) -> None:
        """Go on from the same release with other parameters."""
        self.base, self._grown = replace(self.base, funnel=self.base.funnel.configured(config)), None
        self.base.prime()

    def _with(self, videos: Catalogue) -> tuple[Loaded, Late | None]:
        if not len(videos):
            return self.base, None
        base, bundle = self.base, self.base.bundle
        now, as_of = microseconds(base.clock.now()), microseconds(bundle.manifest.as_of)
        late = Late.learn(videos, bundle, now, self._late)
        catalogue = GrownCatalogue.joining(bundle.catalogue, videos)
        shown = (np.pad(counts, (0, len(videos))) for counts in vars(bundle.exposure).values())
        exposure = self.exposure.follow(Exposure(*shown), catalogue, as_of)
        funnel = _funnel(base.funnel, _bundle(bundle, catalogue, late), late, exposure)
        if isinstance(funnel.ranker, BundleRanker):
            videos_before = funnel.ranker.videos or OwnFeatures(bundle)
            features = WithLate(videos_before, len(bundle.catalogue), self._features.of(videos, now))
            live = self.streams.reader(catalogue)
            ranker = replace(funnel.ranker, bundle=funnel.bundle, live=live, videos=features)
            funnel = replace(funnel, ranker=ranker)
        grown = replace(base, funnel=funnel)
        marks = base.mark_index.with_added(videos.ids.tolist(), len(bundle.catalogue))
        vars(grown)["mark_index"] = marks  # or it would be made of all videos again
        grown.warm()
        self.on_standing(funnel.standing)
        return grown, late

    def _lacking(self, told: pa.Table) -> Catalogue:
        """Those that the release has no row of, in its time: what is dated after its log was told in ours."""
        known = self.base.bundle.catalogue.rows(told["video_id"].to_pylist())
        videos = told.filter(pa.array(known < 0))
        at, as_of = micros(videos["uploaded_at"]), microseconds(self.base.bundle.manifest.as_of)
        at = np.where(at > as_of, at + self.base.clock.offset_us, at)
        place = VIDEOS.get_field_index("uploaded_at")
        moved = pc.if_else(pc.is_null(videos["uploaded_at"]), None, pa.array(at)).cast(UtcTime)
        return Catalogue.of(videos.set_column(place, VIDEOS.field(place), moved))

    @cached_property
    def _features(self) -> UnseenVideos:
        bundle = self.base.bundle
        return UnseenVideos(bundle.catalogue, bundle.video_features, bundle.manifest.layouts[VIDEO_VIEW])


def _bundle(base: Bundle, catalogue: GrownCatalogue, late: Late) -> Bundle:
    """The bundle with late videos in what requests read by row; its tables are not made again."""
    embeddings = Stacked(np.asarray(base.towers.embeddings), late.embeddings)
    grown = replace(base, catalogue=catalogue, towers=replace(base.towers, embeddings=embeddings))
    index = base.tower_index
    if not isinstance(index, ExactIndex | FaissIndex):
        raise TypeError(f"a {type(index).__name__} takes no new vectors")
    vars(grown).update(
        als_index=base.als_index,
        tower_index=LiveIndex.of(index).with_added(late.vectors),
        crosses=GrownCrosses.joining(base.crosses, catalogue, late.vectors),
    )
    return grown


def _funnel(base: Funnel, bundle: Bundle, late: Late, exposure: Exposure) -> Funnel:
    """The funnel with late videos in every retriever but ALS, which knows nothing of them yet."""
    catalogue, before, tables = bundle.catalogue, base.bundle.catalogue, base.tables
    rows = np.arange(len(before), len(catalogue), dtype=np.int32)[::-1]  # the newest first
    neighbours = Stacked(np.asarray(tables.neighbours), late.neighbours)
    likeness = Stacked(np.asarray(tables.likeness), late.likeness)
    grown = Tables(
        neighbours=neighbours,
        likeness=likeness,
        directions=Stacked(np.asarray(tables.directions), late.vectors[:, :-1]),
        creators=tables.creators.with_first(catalogue.creator[rows], rows, len(catalogue.creators)),
        categories=tables.categories.with_last(catalogue.category[rows], rows, len(catalogue.categories)),
        text=TwoTexts.of(tables.text, before, late.catalogue),
    )
    trending = replace(base.trending, catalogue=catalogue, tops={})
    funnel = put_together(bundle, grown, base.ranker, trending, base.config, exposure)
    funnel.inventory.take_over(base.inventory.blocks, late.catalogue)
    uploads = AlikeUploads(grown.directions, late.vectors, neighbours, likeness)
    return replace(funnel, retrievers={**funnel.retrievers, "uploads": uploads})

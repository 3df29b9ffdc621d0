"""The second stage: features of viewer, videos and moment, one call of the network, one score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_repo.context import CONTEXT_HISTORY, context_features
from feature_repo.request import CANDIDATE_NAMES, of_candidates, places
from feature_repo.specs import USER_VIEW, VIDEO_VIEW
from models.affinity import Affinities
from models.bundle import Bundle
from models.crosses import LENGTH, Viewers
from models.hashing import TAG_WIDTH, hashed_texts
from models.layout import FeatureLayout
from models.rank_data import Compared
from models.utility import Weights
from serving.streams import StreamReader
from serving.video_features import OwnFeatures, VideoFeatures
from serving.viewer import Crowd, Viewer

RETRIEVED = {
    name: CANDIDATE_NAMES.index(column)
    for name, column in {
        "als": "als_score",
        "two_tower": "tower_score",
        "neighbours": "neighbour_votes",
        "popularity": "popularity",
    }.items()
}
"""Signal of the blend -> its column among a candidate's features."""


@dataclass(frozen=True)
class RankInputs:
    """The blocks that a ranker read of n candidates, as it read them.

    user float32[du], context float32[dc], video float32[n, dv], cross float32[n, dx]; video_at: when the
    videos' features held, µs since the epoch, 0 where that is not one time.
    """

    user: NDArray[np.float32]
    context: NDArray[np.float32]
    video: NDArray[np.float32]
    cross: NDArray[np.float32]
    video_at: int


@dataclass(frozen=True)
class Ranked:
    """utility float32[n], higher is better; heads: name -> float32[n], probabilities and seconds.

    retrieved: what each retriever, and popularity, says of any candidate, by the names of
    :class:`models.blend.Blend`, float32[n] each; inputs: what was scored, for the feature log. None of either
    from a ranker that reads no features.
    """

    utility: NDArray[np.float32]
    heads: Mapping[str, NDArray[np.float32]]
    retrieved: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    inputs: RankInputs | None = None


class Ranker(Protocol):
    """Scores candidates of one viewer."""

    def rank(self, crowd: Crowd, rows: NDArray[np.int32]) -> Ranked:
        """Scores of catalogue rows int32[n] for a crowd of one."""
        ...

    def weighing(self, override: Mapping[str, float]) -> "Ranker":
        """The same ranker with some weights of the composite score replaced; ConfigError for wrong ones."""
        ...

    def rescored(self, ranked: Ranked) -> Ranked:
        """What was ranked with other weights, scored with this ranker's."""
        ...


@dataclass(frozen=True)
class BundleRanker:
    """The bundle's ranker, on what streams say and on video features by row: the bundle's own by default.

    override: weights of the composite score by name, in place of the bundle's.
    """

    bundle: Bundle
    live: StreamReader
    videos: VideoFeatures | None = None
    override: Mapping[str, float] = field(default_factory=dict)

    def rank(self, crowd: Crowd, rows: NDArray[np.int32]) -> Ranked:
        if not len(rows):
            return Ranked(np.empty(0, np.float32), {})
        bundle, viewer = self.bundle, crowd.viewers[0]
        videos, video_at = (self.videos or self._own).gather(rows)
        cross = self._candidates(crowd, rows, videos)
        inputs = RankInputs(
            user=viewer.features[self._places["user"]],
            context=self._moment(crowd),
            video=videos[:, self._places["video"]],
            cross=cross[:, self._places["cross"]],
            video_at=video_at,
        )
        heads = bundle.scorer.score(
            inputs.user, inputs.video, inputs.context, inputs.cross, self._compared(crowd, rows)
        )
        retrieved = {name: cross[:, at].copy() for name, at in RETRIEVED.items()}
        return Ranked(self.weights.score(heads), heads, retrieved, inputs)

    def _compared(self, crowd: Crowd, rows: NDArray[np.int32]) -> Compared | None:
        """Candidates and history as the towers' embeddings, where the ranker holds one against the other."""
        if not self.bundle.scorer.schema.vector:
            return None
        return Compared.of(self.bundle.towers.embeddings, rows, crowd.histories.newest(LENGTH))

    def _moment(self, crowd: Crowd) -> NDArray[np.float32]:
        """float32[dc]."""
        viewer, layout = crowd.viewers[0], self._context_layout
        recent = crowd.histories.newest(CONTEXT_HISTORY)
        now, asked = np.asarray([viewer.now]), np.asarray([viewer.query_age_s])
        context: NDArray[np.float32] = context_features(
            layout, now, [viewer.surface], [viewer.device], recent, asked
        )[0]
        return context

    def _candidates(
        self, crowd: Crowd, rows: NDArray[np.int32], videos: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """float32[n, d], columns of CANDIDATE_NAMES."""
        bundle, viewer = self.bundle, crowd.viewers[0]
        viewers = Viewers(
            histories=crowd.histories,
            als=crowd.als,
            tower=crowd.tower,
            now=np.asarray([viewer.now]),
            region=bundle.crosses.region_codes([viewer.region]),
            language=bundle.crosses.language_codes([viewer.language]),
        )
        return of_candidates(
            bundle.crosses.features(viewers, rows[None, :])[0],
            self._affinities.features(viewer.features[None], videos, _query(viewer)),
            self.live.of_videos(rows, viewer.now),
            self.live.of_user(viewer.user_id, viewer.now),
        )

    def weighing(self, override: Mapping[str, float]) -> "BundleRanker":
        other = replace(self, override={**self.override, **override})
        _ = other.weights  # which are refused here, or the first request would find out
        return other

    def rescored(self, ranked: Ranked) -> Ranked:
        return replace(ranked, utility=self.weights.score(ranked.heads)) if ranked.heads else ranked

    @cached_property
    def weights(self) -> Weights:
        return Weights.from_dict({**self.bundle.weights.to_dict(), **self.override})

    @cached_property
    def _own(self) -> VideoFeatures:
        return OwnFeatures(self.bundle)

    @cached_property
    def _context_layout(self) -> FeatureLayout:
        return FeatureLayout.of(self.bundle.scorer.schema.context)

    @cached_property
    def _places(self) -> Mapping[str, Any]:
        """Where the ranker's inputs are among the columns of each block."""
        schema = self.bundle.scorer.schema
        blocks: dict[str, Sequence[str]] = {
            "user": self.bundle.manifest.layouts[USER_VIEW].names,
            "video": self.bundle.manifest.layouts[VIDEO_VIEW].names,
            "cross": CANDIDATE_NAMES,
        }
        return {block: places(names, schema.block(block)) for block, names in blocks.items()}

    @cached_property
    def _affinities(self) -> Affinities:
        layouts = self.bundle.manifest.layouts
        return Affinities.of(layouts[USER_VIEW].names, layouts[VIDEO_VIEW].names)


def _query(viewer: Viewer) -> NDArray[np.float32]:
    """The words of the last search, float32[1, w]; zeros without one."""
    return hashed_texts([viewer.query]) if viewer.query else np.zeros((1, TAG_WIDTH), np.float32)

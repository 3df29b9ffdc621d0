"""The second stage: features of viewer, videos and moment, one call of the network, one score."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feature_repo.context import CONTEXT_HISTORY, context_features
from models.bundle import Bundle
from models.crosses import Viewers
from models.layout import FeatureLayout
from serving.video_features import VideoFeatures
from serving.viewer import Crowd


@dataclass(frozen=True)
class Ranked:
    """utility float32[n], higher is better; heads: name -> float32[n], probabilities and seconds."""

    utility: NDArray[np.float32]
    heads: Mapping[str, NDArray[np.float32]]


class Ranker(Protocol):
    """Scores candidates of one viewer."""

    def rank(self, crowd: Crowd, rows: NDArray[np.int32]) -> Ranked:
        """Scores of catalogue rows int32[n] for a crowd of one."""
        ...


@dataclass(frozen=True)
class BundleRanker:
    """The bundle's ranker on video features gathered by row: the bundle's own, unless told where from."""

    bundle: Bundle
    videos: VideoFeatures | None = None

    def rank(self, crowd: Crowd, rows: NDArray[np.int32]) -> Ranked:
        if not len(rows):
            return Ranked(np.empty(0, np.float32), {})
        bundle, viewer = self.bundle, crowd.viewers[0]
        now = np.asarray([viewer.now])
        viewers = Viewers(
            histories=crowd.histories,
            als=crowd.als,
            tower=crowd.tower,
            now=now,
            region=bundle.crosses.region_codes([viewer.region]),
            language=bundle.crosses.language_codes([viewer.language]),
        )
        recent = crowd.histories.newest(CONTEXT_HISTORY)
        context = context_features(self._context, now, [viewer.surface], [viewer.device], recent)
        heads = bundle.scorer.score(
            viewer.features,
            self.videos.gather(rows) if self.videos else bundle.video_features[rows],
            context[0],
            bundle.crosses.features(viewers, rows[None, :])[0],
        )
        return Ranked(bundle.weights.score(heads), heads)

    @cached_property
    def _context(self) -> FeatureLayout:
        return FeatureLayout.of(self.bundle.scorer.schema.context)

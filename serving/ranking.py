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
from serving.viewer import Crowd


@dataclass(frozen=True)
class RankInputs:
    """The blocks that a ranker read of n candidates, as it read them.

    user float32[du], context float32[dc], video float32[n, dv], cross float32[n, dx].
    """

    user: NDArray[np.float32]
    context: NDArray[np.float32]
    video: NDArray[np.float32]
    cross: NDArray[np.float32]


@dataclass(frozen=True)
class Ranked:
    """utility float32[n], higher is better; heads: name -> float32[n], probabilities and seconds.

    inputs: what was scored, for the feature log; None from a ranker that reads no features.
    """

    utility: NDArray[np.float32]
    heads: Mapping[str, NDArray[np.float32]]
    inputs: RankInputs | None = None


class Ranker(Protocol):
    """Scores candidates of one viewer."""

    def rank(self, crowd: Crowd, rows: NDArray[np.int32]) -> Ranked:
        """Scores of catalogue rows int32[n] for a crowd of one."""
        ...


@dataclass(frozen=True)
class BundleRanker:
    """The bundle's ranker on the bundle's own video features, gathered by row."""

    bundle: Bundle

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
        inputs = RankInputs(
            user=viewer.features,
            context=context[0],
            video=bundle.video_features[rows],
            cross=bundle.crosses.features(viewers, rows[None, :])[0],
        )
        heads = bundle.scorer.score(inputs.user, inputs.video, inputs.context, inputs.cross)
        return Ranked(bundle.weights.score(heads), heads, inputs)

    @cached_property
    def _context(self) -> FeatureLayout:
        return FeatureLayout.of(self.bundle.scorer.schema.context)

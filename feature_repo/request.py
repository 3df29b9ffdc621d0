"""What is put together per request and candidate, and what of all features the ranker reads."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from feature_repo.specs import USER, USER_STREAM, VIDEO, VIDEO_STREAM, ViewSpec
from models.cross_specs import AFFINITY_NAMES, CROSS_NAMES
from models.layout import FeatureLayout
from models.rank_data import RankSchema

CONTEXT = "context"
"""Name of the context's layout, beside those of the feature views."""


def live_names(view: ViewSpec) -> tuple[str, ...]:
    """Names of a stream view's features among those of a candidate."""
    return tuple(f"{view.name}__{name}" for name in view.names)


CANDIDATE_NAMES = (*CROSS_NAMES, *AFFINITY_NAMES, *live_names(VIDEO_STREAM), *live_names(USER_STREAM))
"""Names of :func:`of_candidates`' columns."""
LEFT_OUT: frozenset[str] = frozenset()
"""Features that made the ranker worse (docs/LOG.md); they are there for other models."""


def of_candidates(
    cross: NDArray[np.float32],
    affinity: NDArray[np.float32],
    video_live: NDArray[np.float32],
    user_live: NDArray[np.float32],
) -> NDArray[np.float32]:
    """All that is told of k candidates, float32[k, d]; ``user_live`` may be one row for all of them."""
    user_live = np.broadcast_to(user_live, (len(cross), user_live.shape[1]))
    return np.concatenate([cross, affinity, video_live, user_live], axis=1)


def ranker_schema(layouts: Mapping[str, FeatureLayout]) -> RankSchema:
    """Names of the ranker's inputs, in order, and the layouts that two blocks are packed in.

    Of vectors it reads what they say together, the affinities, not their components.
    """
    return RankSchema(
        user=_wanted(USER.plain),
        video=_wanted(VIDEO.plain),
        context=_wanted(layouts[CONTEXT].names),
        cross=_wanted(CANDIDATE_NAMES),
        user_layout=layouts[USER.name].hash,
        video_layout=layouts[VIDEO.name].hash,
    )


def places(names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64] | slice:
    """Where the wanted names are among all; a slice, which copies nothing, where they lie together."""
    place = {name: at for at, name in enumerate(names)}
    found = np.array([place[name] for name in wanted], np.int64)
    if len(found) and (np.diff(found) == 1).all():
        return slice(int(found[0]), int(found[-1]) + 1)
    return found


def _wanted(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in LEFT_OUT)

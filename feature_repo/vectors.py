"""The vectors among the features: hashed words, looks, and viewers' tastes in the same spaces.

A taste is the sum of the vectors of what was watched, so that its dot product with a candidate's vector is an
affinity. Vectors are summed as whole numbers: any engine may bring the pairs, in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from feature_repo.specs import ViewSpec
from models.columns import codes
from models.hashing import CATEGORY_WIDTH, CREATOR_WIDTH, hashed_column, hashed_tags, unit
from models.layout import FLOAT16_MAX
from models.video_inputs import VISUAL
from upnext.errors import CorruptData

VISUAL_TABLE = "visual_embeddings"
"""Table of the lake: video_id, and visual, float32 each."""
SCALE = 1_024
"""Steps that 1 is cut into where vectors are summed."""

Vectors = Mapping[str, NDArray[np.float32]]
"""Name of a vector -> float32[n, width]."""


@dataclass(frozen=True)
class VideoVectors:
    """Vectors of all videos of the lake, in the order of ``ids``; they are the same as of any time."""

    ids: pa.Array
    vectors: Vectors

    @classmethod
    def of(cls, videos: pa.Table, visual: pa.Table | None = None) -> "VideoVectors":
        """From a table of VIDEOS and, where there is one, the table of their looks."""
        ids = videos["video_id"].combine_chunks()
        return cls(
            ids,
            {
                "category_hash": hashed_column(videos["category"], CATEGORY_WIDTH),
                "creator_hash": hashed_column(videos["creator_id"], CREATOR_WIDTH),
                "tag_hash": hashed_tags(videos["tags"]),
                "visual": looks(ids, visual),
            },
        )

    def of_videos(self, ids: pa.ChunkedArray) -> Vectors:
        """Those of some videos, all of them among ``ids``."""
        place = codes(ids, self.ids)
        return {name: vectors[place] for name, vectors in self.vectors.items()}

    def of_creators(self, ids: pa.ChunkedArray) -> Vectors:
        return {"hash": hashed_column(ids, CREATOR_WIDTH)}


def looks(ids: pa.Array, visual: pa.Table | None) -> NDArray[np.float32]:
    """What videos look like, float32[n, VISUAL] of length 1; zeros where that is not known."""
    out = np.zeros((len(ids), VISUAL), np.float32)
    if visual is None or not visual.num_rows:
        return out
    known = visual.filter(pc.is_valid(visual["visual"]))
    flat = np.asarray(pc.list_flatten(known["visual"]).to_numpy(), np.float32)
    if len(flat) != known.num_rows * VISUAL:
        raise CorruptData(
            f"{VISUAL_TABLE} holds {len(flat)} numbers for {known.num_rows} videos, not {VISUAL} each: "
            "write it again"
        )
    place = codes(ids, known["video_id"])
    vectors = unit(np.nan_to_num(flat.reshape(-1, VISUAL), posinf=0.0, neginf=0.0))
    out[place >= 0] = vectors[place[place >= 0]]
    return out


def tastes(pairs: pa.Table, users: pa.ChunkedArray, videos: VideoVectors) -> Vectors:
    """Tastes of U users from what :func:`~feature_repo.user_aggregates.watched_pairs` tells of them."""
    user, video = codes(pairs["user_id"], users), codes(pairs["video_id"], videos.ids)
    watched = videos.vectors["category_hash"], videos.vectors["creator_hash"], videos.vectors["tag_hash"]
    by_time = _summed(pairs["watch_ms"], user, video, len(users), np.concatenate(watched, axis=1))
    category, creator, tag = np.split(by_time, np.cumsum([part.shape[1] for part in watched])[:-1], axis=1)
    by_strength = _summed(pairs["strength_ppm"], user, video, len(users), watched[-1])
    return {
        "taste_category": unit(category),
        "taste_creator": unit(creator),
        "taste_tag": unit(tag),
        "history_tag": unit(by_strength),
    }


def _summed(
    weight: pa.ChunkedArray,
    user: NDArray[np.int32],
    video: NDArray[np.int32],
    users: int,
    vectors: NDArray[np.float32],
) -> NDArray[np.int64]:
    """int64[users, d], each user's sum of weight times vector, in steps of SCALE."""
    weights = np.asarray(weight.to_numpy(), np.int64)
    kept = (weights > 0) & (user >= 0) & (video >= 0)
    pairs = csr_matrix((weights[kept], (user[kept], video[kept])), (users, len(vectors)))
    summed: NDArray[np.int64] = pairs @ np.rint(vectors * SCALE).astype(np.int64)
    return summed


def rounded(view: ViewSpec, plain: pa.Table, vectors: Vectors) -> pa.Table:
    """The key and all features of a view in their order, float32, each as its dtype will hold it."""
    columns: dict[str, NDArray[np.float32]] = {
        f"{name}_{place}": values[:, place]
        for name, values in vectors.items()
        for place in range(values.shape[1])
    }
    out = {view.key: plain[view.key]}
    for feature in view.features:
        values = columns.get(feature.name)
        exact = np.asarray(plain[feature.name].to_numpy()) if values is None else values
        if feature.dtype == "float16":
            exact = np.clip(exact, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
        out[feature.name] = pa.array(exact.astype(np.float32))
    return pa.table(out)

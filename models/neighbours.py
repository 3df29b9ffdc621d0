"""Each video's nearest videos by who watched both: what "because you watched" is drawn from."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.dataset import Interactions
from models.files import reading

CELLS = 1 << 24
"""Similarities held at once; bounds the memory to about 200 MiB."""


@dataclass(frozen=True)
class Neighbours:
    """The k most similar videos of each.

    rows: int32[n, k], best first, -1 pads; never the video itself.
    scores: float32[n, k], similarity in (0, 1]; 0 pads.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        n_videos: int,
        *,
        k: int = 100,
        shrink: float = 20.0,
        per_user: int = 200,
    ) -> "Neighbours":
        """Cosine of the columns of √strength, over the newest row of each (user, video) above 0.

        Parameters
        ----------
        shrink
            Added to the product of the norms, so that a few common viewers do not make a perfect match.
        per_user
            Newest engagements of a user that are looked at; bounds the work to users · per_user² pairs.
        """
        from scipy.sparse import csr_matrix

        liked = interactions.where(interactions.newest & (interactions.strength > 0))
        liked = liked.where(liked.start[liked.user + 1] - np.arange(len(liked)) <= per_user)
        weights = np.sqrt(liked.strength, dtype=np.float32)
        matrix = csr_matrix((weights, (liked.user, liked.video)), shape=(interactions.n_users, n_videos))
        norms = np.sqrt(np.bincount(liked.video, liked.strength, n_videos))
        by_video = matrix.T.tocsr()
        rows = np.full((n_videos, k), -1, np.int32)
        scores = np.zeros((n_videos, k), np.float32)
        step = max(1, CELLS // max(n_videos, 1))
        for first in range(0, n_videos, step):
            common = (by_video[first : first + step] @ matrix).tocsr()
            for at, (start, end) in enumerate(pairwise(common.indptr)):
                video, other = first + at, common.indices[start:end]
                value = common.data[start:end] / (norms[video] * norms[other] + shrink)
                value[other == video] = 0
                best = _largest(value, other, k)
                rows[video, : len(best)] = other[best]
                scores[video, : len(best)] = value[best]
        return cls(rows, scores)

    def save(self, folder: Path) -> None:
        """Write a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "rows.npy", self.rows)
        np.save(folder / "scores.npy", self.scores)

    @classmethod
    def load(cls, folder: Path) -> "Neighbours":
        """Read what :meth:`save` wrote, memory-mapped."""
        names = "rows.npy", "scores.npy"
        with reading("neighbours", folder, *names, remedy="run `upnext step als` first"):
            return cls(*(np.load(folder / name, mmap_mode="r") for name in names))


def _largest(value: NDArray[np.floating], other: NDArray[np.integer], k: int) -> NDArray[np.intp]:
    """Places of the k largest values above 0, largest first, equal ones by ``other``."""
    near = np.argpartition(-value, k)[:k] if len(value) > k else np.arange(len(value))
    near = near[value[near] > 0]
    return near[np.lexsort((other[near], -value[near]))]

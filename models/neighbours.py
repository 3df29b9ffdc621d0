"""What watching a video says for others, by who watched both: what "because you watched" is drawn from.

Weights of :mod:`models.item_item` for the videos that most engaged with, cosines for the rest of a catalogue
that is too large for them.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from models.dataset import Interactions
from models.files import reading
from models.history import Histories
from models.item_item import item_weights

CELLS = 1 << 24
"""Similarities held at once; bounds the memory to about 200 MiB."""
VOTES = 1 << 21
"""Sums of votes held at once, 16 MiB."""
ENTRIES, FEWEST, MOST = 1 << 22, 100, 400
"""Neighbours kept of all videos together where that gives each at least so many, and at most."""


@dataclass(frozen=True)
class Neighbours:
    """The k videos that each one argues most for, or against.

    rows: int32[n, k], the largest score first, -1 pads; never the video itself.
    scores: float32[n, k], below 0 for what is watched less by those who watched the video; 0 pads.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        n_videos: int,
        *,
        k: int | None = None,
        most: int = 8_192,
        ridge: float = 12.0,
        shrink: float = 20.0,
        per_user: int = 200,
    ) -> "Neighbours":
        """From √strength of the newest row of each (user, video) above 0.

        Parameters
        ----------
        k
            Kept of each video; :func:`width` of the catalogue where none is given.
        most
            Videos, those that most engaged with, whose weights are found together in most³ operations.
            The others have the cosine.
        ridge
            Of those weights: the greater, the more users it takes to make one.
        shrink
            Added to the product of the norms, so that a few common viewers do not make a perfect match.
        per_user
            Newest engagements of a user that are looked at; bounds the work to users · per_user² pairs.
        """
        liked = interactions.where(interactions.newest & (interactions.strength > 0))
        liked = liked.where(liked.start[liked.user + 1] - np.arange(len(liked)) <= per_user)
        weights = np.sqrt(liked.strength, dtype=np.float32)
        matrix = csr_matrix((weights, (liked.user, liked.video)), shape=(interactions.n_users, n_videos))
        engaged = np.bincount(liked.video, minlength=n_videos)
        often = np.sort(np.argsort(-engaged, kind="stable")[:most])
        often = often[engaged[often] > 0]
        shape = n_videos, width(n_videos) if k is None else k
        found = cls(np.full(shape, -1, np.int32), np.zeros(shape, np.float32))
        weighed = item_weights(matrix[:, often], ridge) if len(often) else ()
        for video, value in zip(often, weighed, strict=True):
            found._keep(video, value, often)
        rest = np.setdiff1d(np.flatnonzero(engaged), often)
        if len(rest):
            found._cosines(matrix, rest, shrink)
        return found

    def _cosines(self, matrix: csr_matrix, videos: NDArray[np.int64], shrink: float) -> None:
        """Fill the rows of some videos, in place."""
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
        by_video = matrix.T.tocsr()
        step = max(1, CELLS // matrix.shape[1])
        for some in np.array_split(videos, -(-len(videos) // step)):
            common = (by_video[some] @ matrix).tocsr()
            for video, (start, end) in zip(some, pairwise(common.indptr), strict=True):
                other = common.indices[start:end]
                value = common.data[start:end] / (norms[video] * norms[other] + shrink)
                value[other == video] = 0
                self._keep(video, value, other)

    def _keep(self, video: int, value: NDArray[np.floating], other: NDArray[np.integer]) -> None:
        """Fill one row with the values that are furthest from 0, in place."""
        best = _furthest(value, other, self.rows.shape[1])
        self.rows[video, : len(best)] = other[best]
        self.scores[video, : len(best)] = value[best]

    def votes(self, histories: Histories, candidates: NDArray[np.int32]) -> NDArray[np.float32]:
        """What the histories of B viewers say for their candidates int32[B, C], float32[B, C].

        The sum over a history of √strength, where that is above 0, times the candidate's score beside it.
        Rows of n or more, of videos that came later, say and hear nothing.
        """
        n, out = len(self.rows), np.empty(candidates.shape, np.float32)
        weight = np.sqrt(np.where(histories.rows < n, np.maximum(histories.strength, 0), 0))
        step = max(1, VOTES // n)
        for at in range(0, len(out), step):
            some = slice(at, at + step)
            viewer, entry = np.nonzero(weight[some])
            past = histories.rows[some][viewer, entry]
            to = np.maximum(self.rows[past], 0) + (viewer * n)[:, None]  # each viewer has sums of their own
            votes = self.scores[past] * weight[some][viewer, entry, None]
            sums = np.bincount(to.ravel(), votes.ravel(), len(weight[some]) * n)
            asked = np.minimum(candidates[some], n - 1)
            out[some] = sums[asked + np.arange(len(weight[some]))[:, None] * n]
        return np.where(candidates < n, out, 0)

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


def width(n_videos: int) -> int:
    """Neighbours kept of each video of a catalogue: the more, the nearer to the whole linear model."""
    return int(np.clip(ENTRIES // max(n_videos, 1), FEWEST, MOST))


def _furthest(value: NDArray[np.floating], other: NDArray[np.integer], k: int) -> NDArray[np.intp]:
    """Places of the k values furthest from 0, the largest first, equal ones by ``other``; none of 0."""
    far = np.argpartition(-np.abs(value), k)[:k] if len(value) > k else np.arange(len(value))
    far = far[value[far] != 0]
    found: NDArray[np.intp] = far[np.lexsort((other[far], -value[far]))]
    return found

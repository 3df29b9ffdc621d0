"""Ranking a whole catalogue by scores, without the funnel: for protocols that judge models by themselves."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.dataset import Interactions

CHUNK = 256
"""Users whose scores are held at once."""

Score = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""From places in a list of users, int64[b], to scores of all videos, float[b, n]."""


def rank(
    score: Score, users: NDArray[np.int64], known: Interactions, k: int, videos: int
) -> NDArray[np.int32]:
    """The k best videos of each user, int32[U, k], without those that the user is known to have met.

    users: int64[U], codes into ``known``.
    """
    k = min(k, videos)
    out = np.full((len(users), k), -1, np.int32)
    for at in range(0, len(users), CHUNK):
        places = np.arange(at, min(at + CHUNK, len(users)))
        scores = np.array(score(places), np.float64)
        for line, user in enumerate(users[places]):
            scores[line, known.video[known.start[user] : known.start[user + 1]]] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.lexsort((best, -np.take_along_axis(scores, best, axis=1)))
        best = np.take_along_axis(best, order, axis=1)
        found = np.isfinite(np.take_along_axis(scores, best, axis=1))
        out[places] = np.where(found, best, -1)
    return out


def popularity_of(known: Interactions, videos: int) -> NDArray[np.float64]:
    """Users who liked each video, float64[n]: the baseline where times tell nothing."""
    liked = known.newest & (known.strength > 0)
    return np.bincount(known.video[liked], minlength=videos).astype(np.float64)

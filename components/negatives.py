"""Which slates are learned from, and videos that a viewer was not shown, sampled to stand beside them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from upnext.times import DAY_US

ROUNDS = 16
"""Draws of one place before it is given up."""


@dataclass(frozen=True)
class Seen:
    """What each viewer met on each day (UTC), as sorted int64 keys."""

    keys: NDArray[np.int64]
    first_day: int
    days: int
    videos: int

    @classmethod
    def of(
        cls, user: NDArray[np.int32], video: NDArray[np.int32], ts: NDArray[np.int64], videos: int
    ) -> "Seen":
        """From int32[m], int32[m] and int64[m] µs since the epoch."""
        day = ts // DAY_US
        first, last = (int(day.min()), int(day.max())) if len(day) else (0, 0)
        empty = cls(np.empty(0, np.int64), first, last - first + 1, videos)
        return cls(np.unique(empty._key(user, video, ts)), first, last - first + 1, videos)

    def holds(
        self, user: NDArray[np.int32], video: NDArray[np.int32], ts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """bool[n], whether each viewer met each video on the (UTC) day of each time."""
        if not len(self.keys):
            return np.zeros(len(user), np.bool_)
        key = self._key(user, video, ts)
        place = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.asarray(self.keys[place] == key)

    def _key(
        self, user: NDArray[np.int32], video: NDArray[np.int32], ts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        day = ts // DAY_US - self.first_day
        return (user.astype(np.int64) * self.days + day) * self.videos + video


def anchors_of(request: NDArray[np.integer], shown: NDArray[np.bool_], negatives: int) -> NDArray[np.int64]:
    """Rows that negatives are drawn for, ascending, each as often as it gets one: int64[a].

    Of k rows of slates int[k], a slate's first gets as many as the slate has rows, at most ``negatives``: a
    log of single impressions would else be sampled videos for the most part. Where nothing of a slate was
    shown, each row gets all of them.
    """
    slates, first, code, size = np.unique(request, return_index=True, return_inverse=True, return_counts=True)
    was_shown = np.bincount(code, shown, len(slates)) > 0
    of_slate = np.zeros(len(request), np.int64)
    of_slate[first] = np.minimum(size, negatives)
    return np.repeat(np.arange(len(request)), np.where(was_shown[code], of_slate, negatives))


def whole_slates(
    request: NDArray[np.integer],
    shown: NDArray[np.bool_],
    negatives: int,
    most: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Rows of slates drawn at random, ascending, that have at most ``most`` rows with their negatives.

    Slates that were shown come first: most heads can learn nothing from what was engaged with elsewhere. One
    slate is drawn even if it has more.
    """
    slates, code, size = np.unique(request, return_inverse=True, return_counts=True)
    size = size + np.bincount(code[anchors_of(request, shown, negatives)], minlength=len(slates))
    if size.sum() <= most:
        return np.arange(len(request))
    order = rng.permutation(len(slates))
    was_shown = np.bincount(code, shown, len(slates)) > 0
    order = order[np.argsort(~was_shown[order], kind="stable")]
    kept = np.zeros(len(slates), np.bool_)
    kept[order[np.cumsum(size[order]) <= most]] = True
    kept[order[0]] = True
    return np.flatnonzero(kept[code])


def sample_unshown(
    catalogue: Catalogue,
    popularity: NDArray[np.int64],
    seen: Seen,
    user: NDArray[np.int32],
    ts: NDArray[np.int64],
    *,
    popular_share: float,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """One catalogue row for each of n places, int32[n]; -1 where no video was found in a few draws.

    A share of the draws goes by ``popularity`` (int64[videos], such as watch counts), the rest is uniform;
    both are among active videos uploaded before ``ts`` (int64[n], µs) that the viewer (int32[n]) did not
    meet that day.
    """
    rows = np.flatnonzero(catalogue.active)
    there = np.searchsorted(catalogue.uploaded_at[rows], ts)  # rows come by upload time
    weight = np.concatenate([[0], np.cumsum(popularity[rows])])
    out = np.full(len(user), -1, np.int32)
    todo = np.flatnonzero(there > 0)
    for _ in range(ROUNDS):
        if not len(todo):
            break
        limit = there[todo]
        uniform = (rng.random(len(todo)) * limit).astype(np.int64)
        mass = weight[limit]
        popular = np.searchsorted(weight, (rng.random(len(todo)) * mass).astype(np.int64), side="right") - 1
        by_weight = (rng.random(len(todo)) < popular_share) & (mass > 0)
        drawn = rows[np.where(by_weight, popular, uniform)].astype(np.int32)
        good = ~seen.holds(user[todo], drawn, ts[todo])
        out[todo[good]] = drawn[good]
        todo = todo[~good]
    return out

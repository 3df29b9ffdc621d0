"""A small search for ALS's settings on the newest part of its own log.

One setting after the other is moved to a few values around what is best so far; a better one stays. Few fits
find most of what there is to find, since the settings hardly depend on one another (docs/LOG.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.als import AlsConfig, AlsModel
from models.dataset import Interactions
from models.index import top_k
from upnext.errors import EmptyData

WINDOW = 0.1
"""Part of the log's time that is held out to compare on."""
USERS = 1_000
"""Viewers that are compared on at most."""
LENGTH = 50
"""Newest videos that a viewer is folded in from."""
RECALL_AT = 200
ITERATIONS = 5
"""Rounds of a trial: enough to compare, a third of the time."""
LIKED = 0.5
"""Strength from which an engagement is to be found."""


@dataclass(frozen=True)
class Trial:
    """One setting and the mean recall that it reached."""

    config: AlsConfig
    recall: float


def search(log: Interactions, n_videos: int, start: AlsConfig) -> list[Trial]:
    """Up to ``start.trials`` trials, ``start`` the first; the same input gives the same trials.

    EmptyData where the newest tenth of the log's time has nothing new that anybody liked.
    """
    since = int(log.ts.max() - WINDOW * (log.ts.max() - log.ts.min()))
    window = _Window.of(log, since, n_videos)
    known = log.before(since)

    def tried(config: AlsConfig) -> Trial:
        model = AlsModel.fit(known, n_videos, replace(config, iterations=ITERATIONS))
        return Trial(config, window.recall(model))

    trials = [tried(start)]
    for name, moves in _MOVES:
        best = max(trials, key=lambda trial: trial.recall).config
        for value in moves(getattr(best, name)):
            if len(trials) >= start.trials:
                return trials
            changed: dict[str, Any] = {name: value}
            trials.append(tried(replace(best, **changed)))
    return trials


def best_of(trials: list[Trial]) -> AlsConfig:
    """The setting that found most; of equals the first."""
    return max(trials, key=lambda trial: trial.recall).config


def _around(value: float) -> Iterator[float]:
    yield from (value * factor for factor in (4 / 3, 2 / 3, 2.0))


def _double(value: float) -> Iterator[float]:
    yield from (value / 2, value * 2)


def _beside(value: float) -> Iterator[float]:
    yield from (abs(value - 0.25), value + 0.25)


_MOVES = (("regularization", _around), ("alpha", _double), ("popularity_power", _beside))


@dataclass(frozen=True)
class _Window:
    """Viewers with what they had done before a time, and what they newly liked after it.

    wanted: int64, viewer's place · n_videos + video, sorted.
    """

    users: NDArray[np.int32]
    since: int
    log: Interactions
    wanted: NDArray[np.int64]
    n_videos: int

    @classmethod
    def of(cls, log: Interactions, since: int, n_videos: int) -> "_Window":
        known = log.before(since)
        key = log.user.astype(np.int64) * n_videos + log.video
        new = (log.ts >= since) & (log.strength >= LIKED) & ~np.isin(key, key[log.ts < since])
        new &= np.isin(log.user, known.user)
        users = np.unique(log.user[new])
        if not len(users):
            raise EmptyData(
                "nobody liked anything new in the log's newest tenth: ALS has nothing to compare on"
            )
        users = np.sort(np.random.default_rng(0).permutation(users)[:USERS])
        place = np.full(log.n_users, -1, np.int64)
        place[users] = np.arange(len(users))
        kept = new & (place[log.user] >= 0)
        wanted = np.unique(place[log.user[kept]] * n_videos + log.video[kept])
        return cls(users, since, known, wanted, n_videos)

    def recall(self, model: AlsModel) -> float:
        """Mean over viewers of the share of what they wanted that is among the first videos."""
        histories = self.log.histories(self.users, np.full(len(self.users), self.since), LENGTH)
        scores = model.fold_in(histories) @ model.factors.T
        np.put_along_axis(scores, np.maximum(histories.rows, 0), -np.inf, axis=1)
        found = top_k(scores, min(RECALL_AT, max(1, self.n_videos // 10)))
        keys = (np.arange(len(self.users))[:, None] * self.n_videos + found).ravel()
        viewer = self.wanted // self.n_videos
        hits = np.bincount(viewer, np.isin(self.wanted, keys), len(self.users))
        return float(np.mean(hits / np.bincount(viewer, minlength=len(self.users))))

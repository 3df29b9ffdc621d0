"""A small search for ALS's settings on the newest part of its own log.

One setting after the other is moved from the best so far, one way and, if that is no better, the other, and
on as long as it gets better. Few fits find most of what there is to find (docs/LOG.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.als import FOLDED, AlsConfig, AlsModel
from models.dataset import Interactions
from models.history import Histories
from models.index import ExactIndex
from models.metrics import Truth, ndcg
from upnext.errors import EmptyData

WINDOW = 0.1
"""Part of the log's time that is held out to compare on."""
USERS = 1_000
"""Viewers that are compared on at most."""
MET = 200
"""Newest videos of a viewer that are known to have been met, and are not to be found again."""
PLACES = 10
"""Of the ranking that is judged. Recall far down prefers models that say less of the first places."""
ITERATIONS = 5
"""Rounds of a trial: enough to compare, a third of the time."""
LIKED = 0.5
"""Strength from which an engagement is to be found."""


@dataclass(frozen=True)
class Trial:
    """One setting and the mean NDCG@10 that it reached."""

    config: AlsConfig
    ndcg: float


def search(log: Interactions, n_videos: int, start: AlsConfig) -> list[Trial]:
    """Up to ``start.trials`` trials, ``start`` the first; the same input gives the same trials.

    EmptyData where the newest tenth of the log's time has nothing new that anybody liked.
    """
    since = int(log.ts.max() - WINDOW * (log.ts.max() - log.ts.min()))
    window = Window.of(log, since, n_videos)

    def tried(config: AlsConfig) -> Trial:
        model = AlsModel.fit(window.known, n_videos, replace(config, iterations=ITERATIONS))
        return Trial(config, window.ndcg(model))

    trials = [tried(start)]
    for name, ways in _MOVES:
        for move in ways:
            if _climb(trials, name, move, tried, start.trials):
                break
    return trials


def _climb(
    trials: list[Trial],
    name: str,
    move: Callable[[float], float],
    tried: Callable[[AlsConfig], Trial],
    most: int,
) -> bool:
    """Move one setting on from the best while that gets better; whether it ever did."""
    best = climbed = best_of(trials)
    while len(trials) < most:
        changed: dict[str, Any] = {name: round(move(getattr(climbed.config, name)), 6)}
        config = replace(climbed.config, **changed)
        if config in [trial.config for trial in trials] or changed[name] < 0:
            break
        trials.append(tried(config))
        if trials[-1].ndcg <= climbed.ndcg:
            break
        climbed = trials[-1]
    return climbed is not best


def best_of(trials: list[Trial]) -> Trial:
    """The one that found most; of equals the first."""
    return max(trials, key=lambda trial: trial.ndcg)


_MOVES: tuple[tuple[str, tuple[Callable[[float], float], ...]], ...] = (
    ("regularization", (lambda value: value * 2 / 3, lambda value: value * 4 / 3)),
    ("popularity_power", (lambda value: value - 0.25, lambda value: value + 0.25)),
    ("alpha", (lambda value: value / 2, lambda value: value * 2)),
)
"""Setting -> how it is moved, one way and the other."""


@dataclass(frozen=True)
class Window:
    """Viewers with what they had done before a time, and what they newly liked after it.

    known: all of the log before that time; histories: of U viewers, MET wide; truth: of the same.
    """

    known: Interactions
    histories: Histories
    truth: Truth

    @classmethod
    def of(cls, log: Interactions, since: int, n_videos: int) -> "Window":
        """EmptyData where nobody with a history liked anything new."""
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
        kept = new & np.isin(log.user, users)
        place = np.searchsorted(users, log.user[kept])
        truth = Truth.of(place, log.video[kept], np.ones(len(place)), len(users), n_videos)
        return cls(known, known.histories(users, np.full(len(users), since), MET), truth)

    def ndcg(self, model: AlsModel) -> float:
        """Mean over viewers of the NDCG of the videos not met yet, the best first."""
        viewers = model.fold_in(self.histories.newest(FOLDED))
        found, _ = ExactIndex.build(model.factors).search(viewers, PLACES + MET)
        met = (found[:, :, None] == self.histories.rows[:, None, :]).any(axis=2)
        behind = np.argsort(met, axis=1, kind="stable")  # what was met, of which there are MET at most
        return float(np.mean(ndcg(np.take_along_axis(found, behind, axis=1), self.truth, PLACES)))

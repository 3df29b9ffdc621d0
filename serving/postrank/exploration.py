"""Places for videos of which little is known: Thompson sampling, with the propensity of what was drawn."""

import numpy as np
from numpy.typing import NDArray

from serving.postrank.slate import Situation, Slate

DRAWS = 64
"""Draws of all candidates; one of them is followed, and all of them give its propensity."""
REACH = 10
"""Candidates per place of the slate, best first, among which is explored: what is too far down is no good."""
DEVIATIONS = 3.92
"""Standard deviations in a 95 % interval."""


def explore(slate: Slate, situation: Situation) -> Slate:
    """Give each ``explore_every``-th place to a video whose chance of being watched is not known well yet.

    A candidate's chance has a Beta posterior: the ranker's probability, worth ``explore_prior`` impressions,
    and what its impressions so far came to. It is open to exploration until the 95 % interval is narrower
    than ``explore_width``. Thompson sampling (Chapelle and Li, NeurIPS 2011) draws a chance for each, takes
    the greatest. Of ``DRAWS`` such draws of all candidates, made once for all places, each place follows one
    at random, so the share of draws that choose the same video is the propensity given the draws, exactly.
    """
    rules = situation.rules
    if not rules.explore_every:
        return slate
    slots = range(rules.explore_every - 1, min(situation.count, len(slate)), rules.explore_every)
    a, b = _posterior(slate, situation)
    spread = np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
    open_ = (DEVIATIONS * spread > rules.explore_width) & ~np.isin(slate.rows, situation.seen)
    open_[REACH * situation.count :] = False
    rng = np.random.default_rng(situation.seed)
    draws = rng.beta(a[open_], b[open_], (DRAWS, int(open_.sum())))
    column = np.cumsum(open_) - 1  # of an open candidate among the draws
    for slot in slots:
        ahead = slot + np.flatnonzero(open_[slot:])
        if not len(ahead):
            break
        best = draws[:, column[ahead]].argmax(axis=1)
        picked = best[rng.integers(DRAWS)]
        slate, order = _promote(slate, slot, int(ahead[picked]), float((best == picked).mean()))
        open_, column = open_[order], column[order]
        open_[slot] = False
    return slate


def _posterior(slate: Slate, situation: Situation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parameters of the Beta posteriors, float64[m] each."""
    exposure, prior = situation.inventory.exposure, situation.rules.explore_prior
    chance = np.clip(slate.chance.astype(np.float64), 0.01, 0.99)
    shown = exposure.impressions[slate.rows].astype(np.float64)
    well = np.minimum(exposure.successes[slate.rows], shown)
    return prior * chance + well, prior * (1 - chance) + shown - well


def _promote(slate: Slate, slot: int, place: int, chance: float) -> tuple[Slate, NDArray[np.int64]]:
    """Move the candidate at ``place`` up to ``slot``; the others keep their order. Also that reordering."""
    order = np.arange(len(slate))
    order[slot + 1 : place + 1] = order[slot:place].copy()
    order[slot] = place
    moved = slate.take(order)
    moved.explored[slot], moved.propensity[slot] = True, chance
    return moved, order

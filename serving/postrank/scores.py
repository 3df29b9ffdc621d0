"""Rules that move scores: by shares of the slate's spread, halved with time."""

import numpy as np
from numpy.typing import NDArray

from serving.postrank.slate import Situation, Slate, age_s


def demote_seen(slate: Slate, situation: Situation) -> Slate:
    """Lower what the viewer has watched by strength · spread · 2^(-age/half-life)."""
    rules = situation.rules
    recency = np.exp2(-situation.seen_age_s / rules.seen_half_life_s)
    return slate.lowered(rules.seen_strength * _largest(slate.rows, situation.seen, recency))


def demote_passed_over(slate: Slate, situation: Situation) -> Slate:
    """Lower what was shown and not clicked, by strength · spread · 2^(-age/half-life) for each impression.

    No further than the whole spread. What was acted upon since is :func:`demote_seen`'s.
    """
    rules = situation.rules
    if not len(situation.passed):
        return slate
    recency = np.exp2(-situation.passed_age_s / rules.passed_half_life_s)
    recency[np.isin(situation.passed, situation.seen)] = 0
    rows, inverse = np.unique(situation.passed, return_inverse=True)
    times = np.bincount(inverse, recency).astype(np.float32)
    return slate.lowered(np.minimum(rules.passed_strength * _largest(slate.rows, rows, times), 1))


def demote_fatigued(slate: Slate, situation: Situation) -> Slate:
    """Lower the creators and the topics of videos that the viewer turned down lately."""
    rules, catalogue = situation.rules, situation.inventory.catalogue
    down = situation.seen[situation.seen_strength < 0]
    if not len(down):
        return slate
    recency = np.exp2(-situation.seen_age_s[situation.seen_strength < 0] / rules.fatigue_half_life_s)
    share = np.zeros(len(slate), np.float32)
    for group, strength in (
        (catalogue.creator, rules.fatigue_strength),
        (catalogue.category, rules.topic_fatigue_strength),
    ):
        known = group[down] >= 0
        share += strength * _largest(group[slate.rows], group[down[known]], recency[known])
    return slate.lowered(share)


def boost_fresh(slate: Slate, situation: Situation) -> Slate:
    """Raise new uploads: strength · spread · 2^(-age/half-life)."""
    rules = situation.rules
    lift = np.exp2(-age_s(slate.rows, situation) / rules.fresh_half_life_s)
    return slate.lowered(-rules.fresh_strength * lift)


def _largest(
    wanted: NDArray[np.integer], keys: NDArray[np.integer], values: NDArray[np.floating]
) -> NDArray[np.float32]:
    """float32[n]: the largest of ``values`` whose key equals wanted[i], 0 where none does."""
    out = np.zeros(len(wanted), np.float32)
    if not len(keys):
        return out
    order = np.lexsort((values, keys))  # the last of equal keys has the largest value
    keys, values = keys[order], values[order]
    at = np.searchsorted(keys, wanted, side="right") - 1
    hit = (at >= 0) & (keys[at] == wanted)
    out[hit] = values[at[hit]]
    return out

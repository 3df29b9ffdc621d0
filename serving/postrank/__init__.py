"""Business rules between ranking and the answer: a list of small pure functions over arrays.

Each takes a slate and the situation and gives a slate. They run in the order of :data:`HOME`: what may not be
shown goes first, then scores move, then the order is made, then places are given away. An operator can switch
each off by its name (``Rules.off``), but for the first and the sorting. Ads come after them, beside the
slate (:mod:`serving.ads`).
"""

from collections.abc import Sequence

import numpy as np

from serving.postrank.eligibility import eligible, permitted
from serving.postrank.exploration import explore
from serving.postrank.order import by_score, share_with_small, spread_creators, spread_topics
from serving.postrank.scores import boost_fresh, demote_fatigued, demote_passed_over, demote_seen
from serving.postrank.slate import Rule, Situation, Slate

__all__ = [
    "HOME",
    "SEARCH",
    "SHELF",
    "Rule",
    "Situation",
    "Slate",
    "apply",
    "by_score",
    "eligible",
    "permitted",
]

HOME: Sequence[Rule] = (
    eligible,
    demote_seen,
    demote_passed_over,
    demote_fatigued,
    boost_fresh,
    by_score,
    spread_topics,
    explore,
    share_with_small,
    spread_creators,
)
"""A feed."""
SHELF: Sequence[Rule] = (eligible, demote_seen, by_score, spread_creators)
"""For shelves that are not a feed, and for the baselines: the same filters, nothing more."""
SEARCH: Sequence[Rule] = (eligible, by_score)
"""For what was searched for: seen or not, of one creator or of many."""


def apply(rules: Sequence[Rule], slate: Slate, situation: Situation) -> Slate:
    """The first ``count`` of a slate after the rules that are switched on."""
    for rule in rules:
        if rule.__name__ not in situation.rules.off:
            slate = rule(slate, situation)
    return slate.take(np.arange(min(situation.count, len(slate))))

"""Rules that make the order: best first, topics and creators spread, small creators given their share."""

import numpy as np

from models.hashing import unit
from serving.postrank.slate import Situation, Slate

WINDOW = 4
"""Candidates per place of the slate among which topics are spread."""


def by_score(slate: Slate, situation: Situation) -> Slate:
    """Best first; equals keep their order."""
    return slate.take(np.argsort(-slate.score, kind="stable"))


def spread_topics(slate: Slate, situation: Situation) -> Slate:
    """Maximal marginal relevance over the first places (Carbonell and Goldstein, SIGIR 1998).

    Each place takes the candidate with the greatest (1 - λ) · score - λ · cosine to the most similar one that
    is placed already, λ = ``topic_spread``, scores scaled to [0, 1] within a window. The rest stays behind.
    """
    weight, count = situation.rules.topic_spread, min(situation.count, len(slate))
    if not weight or count < 2:
        return slate
    window = min(WINDOW * count, len(slate))
    score = slate.score[:window]
    worth = (1 - weight) * (score - score.min()) / (np.ptp(score) or 1.0)
    vectors = unit(situation.inventory.directions[slate.rows[:window]])
    likeness = np.maximum(vectors @ vectors.T, 0) * np.float32(weight)
    nearest = np.zeros(window, np.float32)
    chosen = np.empty(count, np.int64)
    for place in range(count):
        chosen[place] = best = int((worth - nearest).argmax())
        worth[best] = -np.inf
        np.maximum(nearest, likeness[best], out=nearest)
    rest = np.ones(len(slate), np.bool_)
    rest[chosen] = False
    return slate.take(np.concatenate([chosen, np.flatnonzero(rest)]))


def share_with_small(slate: Slate, situation: Situation) -> Slate:
    """Give at least ``small_share`` of the slate to creators who are seldom shown, where there are any.

    The best of their candidates that did not make it take the last places of others.
    """
    count = min(situation.count, len(slate))
    small = situation.inventory.small[slate.rows]
    wanted = int(np.floor(situation.rules.small_share * count)) - int(small[:count].sum())
    if wanted <= 0:
        return slate
    rising = count + np.flatnonzero(small[count:])[:wanted]
    others = np.flatnonzero(~small[:count] & ~slate.explored[:count])
    falling = others[len(others) - min(len(rising), len(others)) :]
    rising = rising[: len(falling)]
    order = np.arange(len(slate))
    order[falling], order[rising] = rising, falling
    return slate.take(order)


def spread_creators(slate: Slate, situation: Situation) -> Slate:
    """The first ``count``, never more than ``creator_run`` of one creator in a row while another is left.

    Greedy: each place takes the best candidate left that does not lengthen a full run.
    """
    creator = situation.inventory.catalogue.creator[slate.rows].astype(np.int64)
    unknown = creator < 0
    creator[unknown] = -1 - np.flatnonzero(unknown)  # each video without a creator is its own
    run = situation.rules.creator_run
    chosen: list[int] = []
    waiting: list[int] = []  # passed over; all of one creator, see test
    ahead, length = 0, len(slate)
    while len(chosen) < min(situation.count, length):
        last = [creator[place] for place in chosen[-run:]]
        full = len(last) == run and len(set(last)) == 1
        if waiting and not (full and creator[waiting[0]] == last[0]):
            chosen.append(waiting.pop(0))
            continue
        other = int(np.argmax(creator[ahead:] != last[0])) if full and ahead < length else 0
        if ahead == length or (full and creator[ahead + other] == last[0]):
            left = [*waiting, *range(ahead, length)]
            chosen.extend(left[: situation.count - len(chosen)])
            break
        waiting.extend(range(ahead, ahead + other))
        chosen.append(ahead + other)
        ahead += other + 1
    return slate.take(np.asarray(chosen, np.int64))

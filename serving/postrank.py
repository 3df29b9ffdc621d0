"""Business rules between ranking and the answer: a list of small pure functions over arrays.

Each takes a slate and the situation and gives a slate. They run in the order of :data:`HOME`:
what may not be shown goes first, then scores move, then the order is made, then places are given away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from serving.rules import Rules

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Slate:
    """m candidates on their way to the viewer.

    rows int32[m] catalogue rows; score float32[m]; place int32[m], where each lies in the pool;
    explored bool[m]; propensity float32[m], chance of the draw that gave it its place (1 without a draw).
    """

    rows: NDArray[np.int32]
    score: NDArray[np.float32]
    place: NDArray[np.int32]
    explored: NDArray[np.bool_]
    propensity: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.int32], score: NDArray[np.float32]) -> "Slate":
        m = len(rows)
        return cls(rows, score, np.arange(m, dtype=np.int32), np.zeros(m, bool), np.ones(m, np.float32))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Slate":
        return Slate(
            self.rows[index],
            self.score[index],
            self.place[index],
            self.explored[index],
            self.propensity[index],
        )

    @property
    def spread(self) -> float:
        """Distance from the worst score to the best; 1 where all are alike, so that rules still act."""
        width = float(np.ptp(self.score)) if len(self) else 0.0
        return width if width > 0 else 1.0


@dataclass(frozen=True)
class Situation:
    """What the rules may look at.

    now: µs since the epoch; seen int32[s] rows the viewer acted upon with seen_age_s float32[s] (seconds) and
    seen_strength float32[s], negative where turned down; exclude int32[e] rows that must not come.
    """

    catalogue: Catalogue
    restricted: NDArray[np.bool_]
    rules: Rules
    now: int
    count: int
    seen: NDArray[np.int32]
    seen_age_s: NDArray[np.float32]
    seen_strength: NDArray[np.float32]
    allow_restricted: bool = False
    exclude: NDArray[np.int32] | None = None
    seed: int = 0
    active: NDArray[np.bool_] | None = None
    """bool[n], which videos may be shown now; None: those that the release says."""


Rule = Callable[[Slate, Situation], Slate]


def eligible(slate: Slate, situation: Situation) -> Slate:
    """Drop what may not be shown: not active, not uploaded yet, age-restricted, turned down, excluded."""
    return slate.take(permitted(slate.rows, situation))


def permitted(rows: NDArray[np.int32], situation: Situation) -> NDArray[np.bool_]:
    """bool[n]: which rows may be shown to this viewer now."""
    catalogue = situation.catalogue
    active = catalogue.active if situation.active is None else situation.active
    keep = active[rows] & (catalogue.uploaded_at[rows] <= situation.now)
    if not situation.allow_restricted:
        keep &= ~situation.restricted[rows]
    barred = situation.seen[situation.seen_strength < 0]
    if situation.exclude is not None:
        barred = np.concatenate([barred, situation.exclude])
    return keep & ~np.isin(rows, barred) if len(barred) else keep


def demote_seen(slate: Slate, situation: Situation) -> Slate:
    """Lower what the viewer has watched by strength · spread · 2^(-age/half-life)."""
    rules = situation.rules
    recency = np.exp2(-situation.seen_age_s / rules.seen_half_life_s)
    return _lower(slate, rules.seen_strength * _matched(slate.rows, situation.seen, recency))


def demote_fatigued(slate: Slate, situation: Situation) -> Slate:
    """Lower the creators whose videos the viewer turned down lately."""
    rules, creator = situation.rules, situation.catalogue.creator
    down = (situation.seen_strength < 0) & (creator[situation.seen] >= 0)
    recency = np.exp2(-situation.seen_age_s[down] / rules.fatigue_half_life_s)
    matched = _matched(creator[slate.rows], creator[situation.seen[down]], recency)
    return _lower(slate, rules.fatigue_strength * matched)


def boost_fresh(slate: Slate, situation: Situation) -> Slate:
    """Raise new uploads: strength · spread · 2^(-age/half-life)."""
    rules = situation.rules
    lift = np.exp2(-_age_s(slate.rows, situation) / rules.fresh_half_life_s)
    return _lower(slate, -rules.fresh_strength * lift)


def by_score(slate: Slate, situation: Situation) -> Slate:
    """Best first; equals keep their order."""
    return slate.take(np.argsort(-slate.score, kind="stable"))


def explore(slate: Slate, situation: Situation) -> Slate:
    """Give each ``explore_every``-th place to a new video drawn by softmax of score; note the propensity."""
    rules = situation.rules
    if not rules.explore_every:
        return slate
    slots = range(rules.explore_every - 1, min(situation.count, len(slate)), rules.explore_every)
    new = _age_s(slate.rows, situation) <= rules.explore_age_s
    seen = np.isin(slate.rows, situation.seen)
    temperature = rules.explore_temperature * slate.spread
    rng = np.random.default_rng(situation.seed)
    for slot in slots:
        draw = slot + np.flatnonzero((new & ~seen & ~slate.explored)[slot:])
        if not len(draw):
            break
        chance = np.exp((slate.score[draw] - slate.score[draw].max()) / temperature)
        chance /= chance.sum()
        picked = rng.choice(len(draw), p=chance)
        slate, order = _promote(slate, slot, int(draw[picked]), float(chance[picked]))
        new, seen = new[order], seen[order]
    return slate


def spread_creators(slate: Slate, situation: Situation) -> Slate:
    """The first ``count``, never more than ``creator_run`` of one creator in a row while another is left.

    Greedy: each place takes the best candidate left that does not lengthen a full run.
    """
    creator = situation.catalogue.creator[slate.rows].astype(np.int64)
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


HOME: Sequence[Rule] = (
    eligible,
    demote_seen,
    demote_fatigued,
    boost_fresh,
    by_score,
    explore,
    spread_creators,
)
SHELF: Sequence[Rule] = (eligible, demote_seen, by_score, spread_creators)
"""For shelves that are not a feed, and for the baselines: the same filters, nothing more."""
SEARCH: Sequence[Rule] = (eligible, by_score)
"""For what was searched for: seen or not, of one creator or of many."""


def apply(rules: Sequence[Rule], slate: Slate, situation: Situation) -> Slate:
    for rule in rules:
        slate = rule(slate, situation)
    return slate.take(np.arange(min(situation.count, len(slate))))


def _age_s(rows: NDArray[np.int32], situation: Situation) -> NDArray[np.float32]:
    """Seconds since upload, float32[n]; infinite where unknown."""
    uploaded = situation.catalogue.uploaded_at[rows]
    age = np.maximum(situation.now - uploaded, 0) / MICROSECONDS
    return np.where(uploaded > 0, age, np.inf).astype(np.float32)


def _matched(
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


def _lower(slate: Slate, share: NDArray[np.floating]) -> Slate:
    return replace(slate, score=(slate.score - slate.spread * share).astype(np.float32))


def _promote(slate: Slate, slot: int, place: int, chance: float) -> tuple[Slate, NDArray[np.int64]]:
    """Move the candidate at ``place`` up to ``slot``; the others keep their order. Also that reordering."""
    order = np.arange(len(slate))
    order[slot + 1 : place + 1] = order[slot:place].copy()
    order[slot] = place
    moved = slate.take(order)
    moved.explored[slot], moved.propensity[slot] = True, chance
    return moved, order

"""One score from the ranker's heads, with weights that an operator can change live.

    value = Σ weight(head) · P(head) + watch · log(1 + seconds)
    score = log(value) + exposure · log-odds(relevance)

The value is what a video is worth to the viewer once shown. Its heads were learned from what was shown, so
for the rest of the catalogue they flatter; ``relevance`` was learned beside videos drawn at random. Its odds
are how much likelier the viewer is to find and enjoy this video than any, and ``exposure`` says how far to
believe it. The defaults are those that did well on both counts in docs/LOG.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from models import metrics
from models.numbers import Numbers
from upnext.errors import ConfigError

Heads = Mapping[str, NDArray[np.float32]]

TINY = 1e-6
WORTHLESS = 20.0  # more than any of the two logarithms of what TINY bounds


@dataclass(frozen=True)
class Weights(Numbers):
    """Weights of the composite score; the heads' at least 0 but for ``not_interested``, at most 0."""

    click: float = 0.0
    long_view: float = 1.0
    like: float = 2.0
    share: float = 2.0
    not_interested: float = -4.0
    watch: float = 0.3
    """Per unit of log(1 + expected seconds)."""
    exposure: float = 0.75
    """Power of the odds of ``relevance``; 0 leaves it out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "not_interested" and value > 0:
                raise ConfigError(f"weight not_interested is {value}: give at most 0, it is what to avoid")
            if entry.name != "not_interested" and value < 0:
                raise ConfigError(f"weight {entry.name} is {value}: give at least 0")
        if not any((self.click, self.long_view, self.like, self.share, self.watch)):
            raise ConfigError("all weights but not_interested are 0: every video would score alike")

    def score(self, heads: Heads) -> NDArray[np.float32]:
        """Composite of the heads of any shape, float32 of that shape; greater is better.

        What is worth nothing or less comes behind everything else, the worst last, whatever its relevance.
        """
        value = self.watch * np.log1p(np.maximum(heads["watch_s"], 0))
        for name in ("click", "long_view", "like", "share", "not_interested"):
            value = value + getattr(self, name) * heads[name]
        relevance = np.clip(heads["relevance"], TINY, 1 - TINY).astype(np.float64)
        odds = np.log(relevance) - np.log1p(-relevance)
        score = np.log(np.maximum(value, TINY)) + self.exposure * odds
        return np.where(value > TINY, score, value - WORTHLESS * (1 + self.exposure)).astype(np.float32)


@dataclass(frozen=True)
class Slates:
    """Candidate lists of U viewers of the validation window, padded to C.

    heads: by head, float32[U, C]. held: bool[U, C], False for padding.
    gain: float64[U, C], what came of each (such as seconds watched), 0 for what was not shown.
    liked, not_interested: float64[U, C], 1 where it happened. shown: bool[U, C].
    """

    heads: Heads
    held: NDArray[np.bool_]
    gain: NDArray[np.float64]
    liked: NDArray[np.float64]
    not_interested: NDArray[np.float64]
    shown: NDArray[np.bool_]

    def __getitem__(self, users: NDArray[np.bool_]) -> "Slates":
        """Those of some users."""
        rest = {name: value[users] for name, value in vars(self).items() if name != "heads"}
        return Slates({name: head[users] for name, head in self.heads.items()}, **rest)


@dataclass(frozen=True)
class Judged:
    """Figures of one order of slates, float64[U] each; NaN for a user without any gain, or shown nothing.

    first_s: gain of what would be first of what was shown; liked, not_interested: among the first k.
    """

    ndcg: NDArray[np.float64]
    first_s: NDArray[np.float64]
    liked: NDArray[np.float64]
    not_interested: NDArray[np.float64]

    @property
    def mean_ndcg(self) -> float:
        return 0.0 if np.isnan(self.ndcg).all() else float(np.nanmean(self.ndcg))

    def annoys_no_more_than(self, other: "Judged") -> bool:
        """Whether likes don't fall, nor dislikes rise, by more than a hundredth of the other's."""
        enough = self.liked.sum() >= other.liked.sum() * 0.99
        return bool(enough and self.not_interested.sum() <= other.not_interested.sum() * 1.01)


@dataclass(frozen=True)
class Fit:
    """Chosen weights, and the objective that they reach."""

    weights: Weights
    ndcg: float
    tried: int


GRID: dict[str, tuple[float, ...]] = {
    "exposure": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5),
    "watch": (0.0, 0.1, 0.3, 1.0, 4.0),
    "click": (0.0, 0.2, 1.0, 4.0),
    "long_view": (0.0, 0.3, 1.0, 3.0),
}
"""Values tried for each weight; like, share and not_interested are a platform's choice, not fitted."""


def fit_weights(slates: Slates, start: Weights | None = None, k: int = 10, rounds: int = 2) -> Fit:
    """Search one weight at a time for the greatest NDCG@k of the gain.

    A step is taken only where the likes among the first k don't fall, nor the dislikes rise, by more than a
    hundredth of what ``start`` has: watch time is not bought with annoyance.
    """
    start = start or Weights()
    best = first = judge(slates, start, k)
    weights, tried = start, 1
    for _, (name, values) in product(range(rounds), GRID.items()):
        for value in values:
            given = {**weights.to_dict(), name: value}
            if value == getattr(weights, name) or not _scores_anything(given):
                continue
            candidate = replace(weights, **{name: value})
            judged, tried = judge(slates, candidate, k), tried + 1
            if judged.annoys_no_more_than(first) and judged.mean_ndcg > best.mean_ndcg + 1e-9:
                best, weights = judged, candidate
    return Fit(weights, best.mean_ndcg, tried)


def judge(slates: Slates, weights: Weights, k: int = 10) -> Judged:
    """Order every user's candidates by some weights."""
    users, width = slates.held.shape
    score = np.where(slates.held, weights.score(slates.heads), -np.inf)
    ranked = np.argsort(-score, axis=1, kind="stable")[:, :k]
    user, place = np.nonzero(slates.held & (slates.gain > 0))
    truth = metrics.Truth.of(user, place, slates.gain[user, place], users, width)
    top = np.take_along_axis(slates.held, ranked, axis=1)
    shown = slates.held & slates.shown
    first = np.where(shown, score, -np.inf).argmax(axis=1)
    seconds = np.where(shown.any(axis=1), slates.gain[np.arange(users), first], np.nan)
    liked, disliked = (
        (np.take_along_axis(values, ranked, axis=1) * top).sum(axis=1)
        for values in (slates.liked, slates.not_interested)
    )
    return Judged(metrics.ndcg(ranked, truth, k), seconds, liked, disliked)


def _scores_anything(given: Mapping[str, float]) -> bool:
    return any(given[name] for name in ("click", "long_view", "like", "share", "watch"))

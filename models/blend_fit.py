"""Fitting the weights of a :class:`~models.blend.Blend` on what came of viewers' candidates.

A listwise softmax: the cross entropy between each viewer's gains, as shares, and softmax(score) over their
candidates (Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML 2007). It is
convex, a pull to the default keeps weights that nothing speaks for where they are, and it hears every gain,
where NDCG@10 hears the few that reach the first ten: so it tells blends apart with fewer viewers.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import metrics
from models.blend import SIGNALS, Blend
from models.bootstrap import Comparison, compare
from upnext.errors import EmptyData

RIDGE = 50.0
"""Strength of the pull to the default, in viewers."""
SECONDS = 2.0
"""What all the seconds watched count beside all the long views: they are what the gate asks for too."""
LOST = -1e9
"""Score of what is no candidate."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pools:
    """Candidates of U viewers, padded to C, and what came of them.

    signals: float32[U, C, len(SIGNALS)], standardised, 0 for padding. held: bool[U, C], False for padding.
    long_view: float64[U, C], 1 where a candidate was watched for more than half; seconds: float64[U, C].
    """

    signals: NDArray[np.float32]
    held: NDArray[np.bool_]
    long_view: Floats
    seconds: Floats

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, users: NDArray[np.bool_]) -> "Pools":
        """Those of some viewers."""
        return Pools(**{name: value[users] for name, value in vars(self).items()})

    def scores(self, weights: Floats) -> Floats:
        """float64[U, C] by weights float64[len(SIGNALS)]; LOST for padding."""
        return np.where(self.held, self.signals @ weights.astype(np.float32), LOST)

    @property
    def gains(self) -> Floats:
        """float64[U, C], what is to come first: long views and seconds, each as a share of all of them."""
        seconds = self.seconds.sum()
        gains: Floats = self.long_view / max(self.long_view.sum(), 1)
        return gains + SECONDS * self.seconds / seconds if seconds else gains


@dataclass(frozen=True)
class Quality:
    """Of an order, float64[U] each, NaN where a viewer has no such gain.

    likelihood: mean log-probability of the viewer's gains; long_views, seconds: NDCG@10 with these as gains.
    """

    likelihood: Floats
    long_views: Floats
    seconds: Floats


def fit(pools: Pools, start: Blend | None = None, ridge: float = RIDGE) -> Blend:
    """The blend of greatest likelihood, pulled towards ``start``; EmptyData where nothing was gained."""
    from scipy.optimize import minimize  # SciPy stays off the serving path

    default = as_weights(start or Blend())
    pools = pools[pools.gains.sum(axis=1) > 0]
    if not len(pools):
        raise EmptyData("no viewer's candidates were watched: there is nothing to fit the blend on")
    shares = _shares(pools)

    def loss(weights: Floats) -> tuple[float, Floats]:
        chance = _log_softmax(pools.scores(weights))
        away = weights - default
        value = -(shares * chance).sum() + ridge / 2 * away @ away
        left = (np.exp(chance) - shares).astype(np.float32).ravel()
        slope = left @ pools.signals.reshape(-1, len(SIGNALS)) + ridge * away
        return float(value) / len(pools), slope / len(pools)

    found = minimize(loss, default, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return Blend(*(round(float(weight), 4) for weight in found.x))


def judge(pools: Pools, blend: Blend, k: int = 10) -> Quality:
    """How well a blend orders every viewer's candidates."""
    scores = pools.scores(as_weights(blend))
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    shares, gained = _shares(pools), pools.gains.sum(axis=1) > 0
    likelihood = np.where(gained, (shares * _log_softmax(scores)).sum(axis=1), np.nan)
    long_views, seconds = (_ndcg(pools, ranked, gain, k) for gain in (pools.long_view, pools.seconds))
    return Quality(likelihood, long_views, seconds)


def choose(pools: Pools, ridge: float = RIDGE) -> tuple[Blend, dict[str, Any]]:
    """A fitted blend where it proves better than the default, the default else; and how it went.

    Each half of the viewers is ordered by what was fitted on the other. What is fitted on all takes the
    default's place when the likelihood on viewers that it was not fitted on is greater with an interval above
    zero, and no NDCG@10, of long views or of seconds, has one below. The default is judged at its best scale,
    which no order depends on, but its likelihood does.
    """
    usual, half = Blend(), np.arange(len(pools)) % 2 == 0
    blend = fit(pools, usual, ridge)
    about: dict[str, Any] = {"viewers": len(pools), "fitted": blend.to_dict(), "kept": "default"}
    learned = _crossed(pools, half, lambda some: fit(some, usual, ridge))
    default = _crossed(pools, half, lambda some: scaled(some, usual))
    told = {}
    for name in vars(learned):
        try:
            told[name] = compare(getattr(learned, name), getattr(default, name))
        except EmptyData:  # a log without seconds
            continue
    about |= {name: _figures(each) for name, each in told.items()}
    worse = [name for name, each in told.items() if each.difference_interval[1] < 0]
    if worse or told["likelihood"].difference_interval[0] <= 0:
        why = f"worse by {', '.join(worse)}" if worse else "the likelihood's gain may be none"
        return usual, about | {"why": why}
    return blend, about | {"kept": "fitted"}


def scaled(pools: Pools, blend: Blend) -> Blend:
    """The same order, its weights multiplied so that the likelihood is greatest."""
    from scipy.optimize import minimize_scalar

    weights, shares = as_weights(blend), _shares(pools)
    scores = pools.scores(weights)

    def loss(log_scale: float) -> float:
        wider = np.where(pools.held, scores * np.exp(log_scale), LOST)
        return -float((shares * _log_softmax(wider)).sum())

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded").x
    return Blend(*(weights * np.exp(best)).tolist())


def as_weights(blend: Blend) -> Floats:
    """float64[len(SIGNALS)], in their order."""
    return np.array([getattr(blend, name) for name in SIGNALS], np.float64)


def _crossed(pools: Pools, half: NDArray[np.bool_], way: Callable[[Pools], Blend]) -> Quality:
    """Of all viewers, those of each half by the blend that a way makes of the other."""
    out = Quality(*(np.empty(len(half)) for _ in fields(Quality)))
    for part in (half, ~half):
        judged = judge(pools[part], way(pools[~part]))
        for name, values in vars(out).items():
            values[part] = getattr(judged, name)
    return out


def _figures(each: Comparison) -> list[float]:
    """By default, by what was fitted, and the interval of the difference."""
    return [each.baseline, each.mean, *each.difference_interval]


def _shares(pools: Pools) -> Floats:
    """Gains as shares of each viewer's; 0 for one without any."""
    gains = pools.gains
    total = gains.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(gains, total, out=np.zeros_like(gains), where=total > 0)
    return shares


def _log_softmax(scores: Floats) -> Floats:
    scores = scores - scores.max(axis=1, keepdims=True)
    chance: Floats = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return chance


def _ndcg(pools: Pools, ranked: NDArray[np.intp], gain: Floats, k: int) -> Floats:
    """float64[U], NaN for a viewer whose candidates had no such gain."""
    user, place = np.nonzero(pools.held & (gain > 0))
    truth = metrics.Truth.of(user, place, gain[user, place], *pools.held.shape)
    return np.asarray(metrics.ndcg(ranked, truth, k))

"""What a new policy would earn, estimated from what an old one showed with known probabilities.

A row is a slot that was shown: what came of it (the reward), the probability with which the old policy put
that video there, and the probability with which the new one would. Their ratio is the row's weight.

- SNIPS, self-normalised inverse propensity scoring (Swaminathan and Joachims, NeurIPS 2015): the weighted
  mean of the rewards.
- DR, doubly robust (Dudík, Langford and Li, ICML 2011), with its correction self-normalised too: what a
  reward model expects of the new policy, plus the weighted mean of the model's errors where it can be seen.

Both judge each slot by itself: what a video earns in a place must not depend on the videos beside it (the
item-position model of Li et al., KDD 2018). Both say nothing, rather than something, where too few rows
carry all the weight.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.bootstrap import resampled_means
from upnext.errors import TooLittleData

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From users' means of some columns, float64[..., m], to what is estimated, float64[...]."""

CLIP = 10_000.0
"""Weights above are cut to this: less variance for some bias."""
LEAST_SIZE = 100.0
"""Effective rows below which no estimate is given."""


@dataclass(frozen=True)
class Logged:
    """n slots that were shown.

    user: int[n], codes; rows of one user are not independent, so users are what is resampled.
    reward: float64[n], such as seconds watched. propensity: float64[n], in (0, 1], of the policy that logged.
    target: float64[n], in [0, 1], of the policy to be judged.
    """

    user: NDArray[np.int64]
    reward: Floats
    propensity: Floats
    target: Floats

    @classmethod
    def of(cls, user: ArrayLike, reward: ArrayLike, propensity: ArrayLike, target: ArrayLike) -> "Logged":
        """Checked columns; ValueError where a probability is none or a reward is not a number."""
        code = np.unique(np.asarray(user), return_inverse=True)[1].astype(np.int64)
        columns = [np.asarray(column, np.float64) for column in (reward, propensity, target)]
        if {len(column) for column in columns} != {len(code)}:
            raise ValueError("user, reward, propensity and target are not of one length")
        found, logged, wanted = columns
        if not np.isfinite(found).all():
            raise ValueError("a reward is not a number: leave out rows of unknown outcome")
        if not ((logged > 0) & (logged <= 1)).all():
            raise ValueError("a propensity is outside (0, 1]: leave out rows of unknown propensity")
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError("a target probability is outside [0, 1]")
        return cls(code, found, logged, wanted)

    def __len__(self) -> int:
        return len(self.user)

    def weights(self, clip: float = CLIP) -> Floats:
        """How much likelier the new policy is to show each row, float64[n], at most ``clip``."""
        return np.minimum(self.target / self.propensity, clip)


@dataclass(frozen=True)
class Estimate:
    """Mean reward per slot of the new policy, with a percentile interval of a bootstrap over users."""

    value: float
    low: float
    high: float
    effective_size: float
    """Rows of equal weight that would tell as much (Kish 1965)."""
    rows: int
    clipped: float
    """Share of the weight that clipping cut off: where it is not small, the estimate leans."""


def effective_size(weights: ArrayLike) -> float:
    """(Σw)² / Σw², Kish's effective sample size; 0 where all weights are."""
    w = np.asarray(weights, np.float64)
    return float(w.sum() ** 2 / (w @ w)) if w.any() else 0.0


def snips(logged: Logged, *, clip: float = CLIP, least: float = LEAST_SIZE, seed: int = 0) -> Estimate:
    """Self-normalised IPS: Σ w·r / Σ w.

    TooLittleData where the effective sample size is below ``least``.
    """
    weights = logged.weights(clip)
    sums = _by_user(logged, weights * logged.reward, weights)

    def value(means: Floats) -> Floats:
        return _ratio(means[..., 0], means[..., 1])

    return _estimate(logged, weights, sums, value, least, seed)


def doubly_robust(
    logged: Logged,
    predicted: ArrayLike,
    expected: ArrayLike,
    *,
    clip: float = CLIP,
    least: float = LEAST_SIZE,
    seed: int = 0,
) -> Estimate:
    """Doubly robust: mean of what is expected + Σ w·(r - predicted) / Σ w.

    Parameters
    ----------
    predicted: float[n], the reward model's guess for what was shown
    expected: float[n], its guess for what the new policy would show in the same slot, a mean over its choice

    TooLittleData as for :func:`snips`: without weights that say something the model is not corrected.
    ValueError where a guess is missing or not a number.
    """
    weights = logged.weights(clip)
    guessed, hoped = (np.asarray(column, np.float64) for column in (predicted, expected))
    for name, column in (("predicted", guessed), ("expected", hoped)):
        if column.shape != (len(logged),) or not np.isfinite(column).all():
            raise ValueError(f"{name} is not a number for each of {len(logged)} rows")
    sums = _by_user(logged, weights * (logged.reward - guessed), weights, hoped, np.ones(len(logged)))

    def value(means: Floats) -> Floats:
        return _ratio(means[..., 2], means[..., 3]) + _ratio(means[..., 0], means[..., 1])

    return _estimate(logged, weights, sums, value, least, seed)


def _estimate(
    logged: Logged, weights: Floats, sums: Floats, value: Statistic, least: float, seed: int
) -> Estimate:
    size = effective_size(weights)
    if size < least:
        raise TooLittleData(
            f"the new policy shares {size:.0f} effective slots of {len(logged):,} with the log, fewer than "
            f"{least:.0f}: take a longer log, or a policy that is closer to the one that logged"
        )
    resampled = value(resampled_means(sums, 2_000, np.random.default_rng(seed)))
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    whole = float((logged.target / logged.propensity).sum())
    return Estimate(
        value=float(value(sums.mean(axis=0))),
        low=float(low),
        high=float(high),
        effective_size=size,
        rows=len(logged),
        clipped=1 - float(weights.sum()) / whole,
    )


def _by_user(logged: Logged, *columns: Floats) -> Floats:
    """Sums of each column by user, float64[U, m]."""
    users = int(logged.user.max()) + 1 if len(logged) else 0
    return np.stack([np.bincount(logged.user, column, users) for column in columns], axis=1)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio

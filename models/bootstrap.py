"""Paired bootstrap over users: is one policy better than another, and by how much?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upnext.errors import EmptyData

CELLS = 4_000_000  # of a block of resampled counts: 32 MB


@dataclass(frozen=True)
class Comparison:
    """Two policies judged on the same users, with percentile intervals of the given confidence.

    ``lift`` is mean / baseline - 1, NaN where the baseline's mean is not above zero.
    """

    mean: float
    baseline: float
    difference: float
    difference_interval: tuple[float, float]
    lift: float
    lift_interval: tuple[float, float]
    users: int
    confidence: float


def compare(
    values: ArrayLike,
    baseline: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare one figure per user, float[U] each; users with a NaN on either side are left out.

    Users are resampled with replacement, both policies together (Efron 1979), so that what varies between
    users does not blur the difference. A ratio is that of the means, not the mean of the ratios. With
    ``weights`` float[U], such as a user's rows in GAUC, means are weighted, and resampled as such.
    """
    weight = np.ones(np.shape(values)) if weights is None else np.asarray(weights, np.float64)
    sums = np.stack([np.asarray(values, np.float64) * weight, np.asarray(baseline) * weight, weight], axis=1)
    pair = sums[~np.isnan(sums).any(axis=1) & (weight > 0)]
    if not len(pair):
        raise EmptyData("no user has a figure under both policies: nothing to compare")
    drawn = resampled_means(pair, resamples, np.random.default_rng(seed))
    means = drawn[:, :2] / drawn[:, 2:]
    mean, base = pair[:, :2].sum(axis=0) / pair[:, 2].sum()
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    difference = np.quantile(means[:, 0] - means[:, 1], tails)
    lift = np.quantile(_lift(means[:, 0], means[:, 1]), tails)
    return Comparison(
        mean=float(mean),
        baseline=float(base),
        difference=float(mean - base),
        difference_interval=(float(difference[0]), float(difference[1])),
        lift=float(_lift(mean, base)),
        lift_interval=(float(lift[0]), float(lift[1])),
        users=len(pair),
        confidence=confidence,
    )


def paired_p_value(values: ArrayLike, baseline: ArrayLike, *, resamples: int = 9_999, seed: int = 0) -> float:
    """Two-sided p of a permutation test that flips the signs of users' differences (Fisher 1935).

    Users with a NaN on either side are left out. It asks whether the means differ; how much is for
    :func:`compare`.
    """
    from scipy.stats import permutation_test

    difference = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        raise EmptyData("no user has a figure under both policies: nothing to compare")
    if not difference.any():
        return 1.0
    found = permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, CELLS // len(difference)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def resampled_means(
    values: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Means of float64[U, m] over resampled users, float64[resamples, m]."""
    users = len(values)
    block = max(1, CELLS // users)
    means = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(users, size=(rows, users)) + np.arange(rows)[:, None] * users
        counts = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        means.append(counts @ values / users)
    return np.concatenate(means)


def _lift(mean: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    mean, baseline = np.asarray(mean, np.float64), np.asarray(baseline, np.float64)
    ratio = np.full(baseline.shape, np.nan)
    np.divide(mean, baseline, out=ratio, where=baseline > 0)
    return ratio - 1

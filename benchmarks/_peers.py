"""Peers of the retrievers and the funnel: EASE, and implicit's own ALS with its defaults and tuned.

All of them learn from what came before a time, and are tuned on the days before it, never on what they are
judged on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from time import process_time

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from components.protocols.ranking import Score, rank
from models import metrics
from models.dataset import Interactions
from models.metrics import Truth

Fit = Callable[[Interactions, int], Score]
"""From what is learned from, and the number of videos, to scores by user code."""

RIDGES = (100.0, 300.0, 1_000.0)
FACTORS, ALPHAS, REGULARISATIONS = (64, 128), (1.0, 10.0), (0.01, 10.0, 100.0)
JUDGED = 1_000
"""Users that a setting is judged on."""


@dataclass(frozen=True)
class Peer:
    """A fitted peer: its scores, the setting that was chosen, and CPU seconds of the last fit."""

    score: Score
    setting: str
    seconds: float


def peers(log: Interactions, valid_start: int, end: int, videos: int) -> dict[str, Peer]:
    """Fitted on what is before ``end``, tuned on what lies between ``valid_start`` and it (µs)."""
    early, late = log.before(valid_start), log.before(end)
    wanted = late.where((late.ts >= valid_start) & (late.strength > 0.5))
    return {
        "EASE": tuned(dict(eases()), early, late, wanted, videos),
        "implicit's ALS, defaults": fitted("defaults", implicit_als(), late, videos),
        "implicit's ALS, tuned": tuned(dict(alternating()), early, late, wanted, videos),
    }


def eases() -> Iterator[tuple[str, Fit]]:
    for ridge, by_strength in product(RIDGES, (False, True)):
        yield f"λ {ridge:g}{', by strength' if by_strength else ''}", ease(ridge, by_strength)


def alternating() -> Iterator[tuple[str, Fit]]:
    for factors, alpha, ridge in product(FACTORS, ALPHAS, REGULARISATIONS):
        setting = f"{factors} factors, alpha {alpha:g}, regularization {ridge:g}"
        yield setting, implicit_als(factors=factors, alpha=alpha, regularization=ridge)


def ease(ridge: float, by_strength: bool) -> Fit:
    """Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019: B = I - P / diag(P)."""

    def fit(log: Interactions, videos: int) -> Score:
        seen = matrix_of(log, videos, by_strength)
        gram = np.asarray((seen.T @ seen).todense(), np.float32)
        gram[np.diag_indices(videos)] += ridge
        inverse = cho_solve(cho_factor(gram, overwrite_a=True), np.eye(videos, dtype=np.float32))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return lambda users: np.asarray(seen[users] @ weights)

    return fit


def implicit_als(alpha: float = 1.0, **settings: float) -> Fit:
    """implicit's ALS as it comes, with confidence 1 + alpha · strength (Hu, Koren and Volinsky, ICDM 2008).

    implicit takes what is in the matrix for the whole confidence, beside 1 of a pair that is not in it.
    """
    from implicit.cpu.als import AlternatingLeastSquares

    def fit(log: Interactions, videos: int) -> Score:
        matrix = matrix_of(log, videos, by_strength=True)
        matrix.data = 1 + alpha * matrix.data
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(num_threads=1, random_state=0, **settings)
            model.fit(matrix, show_progress=False)
        return lambda users: model.user_factors[users] @ model.item_factors.T

    return fit


def matrix_of(log: Interactions, videos: int, by_strength: bool) -> csr_matrix:
    """What each user liked, float32[users, videos]: 1, or the strength."""
    liked = log.where(log.newest & (log.strength > 0))
    values = liked.strength if by_strength else np.ones(len(liked), np.float32)
    return csr_matrix((values, (liked.user, liked.video)), shape=(log.n_users, videos))


def tuned(
    settings: dict[str, Fit], early: Interactions, late: Interactions, wanted: Interactions, videos: int
) -> Peer:
    """The setting with the best NDCG@10 on the validation days, fitted once more on all that is known."""
    users = np.unique(wanted.user)
    if len(users) > JUDGED:
        users = np.sort(np.random.default_rng(0).choice(users, JUDGED, replace=False))
    kept = np.isin(wanted.user, users)
    seen = np.unique(early.user.astype(np.int64) * videos + early.video)
    kept &= ~np.isin(wanted.user.astype(np.int64) * videos + wanted.video, seen)
    place = np.searchsorted(users, wanted.user[kept])
    truth = Truth.of(place, wanted.video[kept], np.ones(len(place)), len(users), videos)
    quality = {
        name: float(
            np.nanmean(metrics.ndcg(ranked_by(fit(early, videos), users, early, 10, videos), truth, 10))
        )
        for name, fit in settings.items()
    }
    best = max(quality, key=lambda name: quality[name])
    return fitted(best, settings[best], late, videos)


def fitted(setting: str, fit: Fit, log: Interactions, videos: int) -> Peer:
    began = process_time()
    score = fit(log, videos)
    return Peer(score, setting, process_time() - began)


def ranked_by(
    score: Score, users: NDArray[np.integer], known: Interactions, k: int, videos: int
) -> NDArray[np.int32]:
    """The k best for each user by code, int32[U, k], without what they are known to have met."""
    codes = np.asarray(users, np.int64)
    return rank(lambda places: score(codes[places]), codes, known, k, videos)

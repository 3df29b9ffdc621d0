"""The peers of the benchmark are what their papers say, and are tuned on the days before they are judged."""

from dataclasses import replace

import numpy as np

from benchmarks._peers import ease, implicit_als, matrix_of, ranked_by, tuned
from models.dataset import Interactions

LIKED = [
    (int(u), int(v)) for u, v in zip(*np.nonzero(np.random.default_rng(2).random((12, 8)) < 0.5), strict=True)
]


def log_of(pairs: list[tuple[int, int]], ts: int = 1) -> Interactions:
    user, video = np.array(sorted(pairs), np.int32).T
    ones = np.ones(len(user), np.float32)
    return Interactions(user, video, np.full(len(user), ts), ones, ones, 12)


def test_ease_is_at_the_minimum_of_its_loss() -> None:
    log, ridge = log_of(LIKED), 5.0
    seen = matrix_of(log, 8, by_strength=False).toarray().astype(np.float64)
    scores = ease(ridge, by_strength=False)(log, 8)(np.arange(12))
    weights = np.linalg.lstsq(seen, scores, rcond=None)[0]
    gradient = seen.T @ (seen @ weights - seen) + ridge * weights
    off_diagonal = gradient[~np.eye(8, dtype=bool)]
    assert np.abs(np.diag(weights)).max() < 1e-4
    assert np.abs(off_diagonal).max() < 1e-3


def test_als_is_at_the_minimum_of_the_loss_of_its_paper() -> None:
    """Σ c (p - x·y)² + λ (|x|² + |y|²) with c = 1 + αr, also for strengths below 1 (Hu et al., 2008)."""
    log, alpha, ridge = log_of(LIKED), 2.0, 0.5
    strength = np.random.default_rng(3).uniform(0.1, 0.9, len(log)).astype(np.float32)
    log = replace(log, strength=strength)
    fit = implicit_als(alpha=alpha, factors=3, regularization=ridge, iterations=3_000, use_cg=False)
    scores = fit(log, 8)(np.arange(12)).astype(np.float64)
    left, size, right = np.linalg.svd(scores)  # at the minimum both sides have the same norms
    users, videos = left[:, :3] * np.sqrt(size[:3]), right[:3].T * np.sqrt(size[:3])
    liked = matrix_of(log, 8, by_strength=True).toarray()
    gap = (1 + alpha * liked) * (scores - (liked > 0))
    assert size[2] > 0.1  # three factors are in use
    assert np.abs(gap.T @ users + ridge * videos).max() < 1e-3
    assert np.abs(gap @ videos + ridge * users).max() < 1e-3


def test_what_was_met_is_not_ranked() -> None:
    log = log_of(LIKED)
    rows = ranked_by(implicit_als(factors=4)(log, 8), np.array([3]), log, 8, 8)
    met = {video for user, video in LIKED if user == 3}
    assert set(rows[0].tolist()) - {-1} == set(range(8)) - met


def test_the_best_setting_on_the_validation_days_is_chosen() -> None:
    early, wanted = log_of([(user, 0) for user in range(12)]), log_of([(user, 5) for user in range(12)], 2)

    def always(video: int):
        return lambda log, videos: lambda users: np.tile(np.eye(8)[video], (len(users), 1))

    peer = tuned({"wrong": always(3), "right": always(5)}, early, early, wanted, 8)
    assert peer.setting == "right"

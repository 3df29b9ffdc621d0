"""Directions of videos from who engaged with them: where the towers start from.

Randomised truncated SVD (Halko, Martinsson and Tropp, SIAM Review 2011) of the user × video matrix of
√strength, its rows and columns scaled down by (sum of strengths)^¼.
"""

import numpy as np
from numpy.typing import NDArray

from models.dataset import Interactions

OVERSAMPLE = 16
ROUNDS = 3


def directions(interactions: Interactions, n_videos: int, width: int, seed: int) -> NDArray[np.float32]:
    """float32[n, width], rows of length 1; zeros for videos without a strength above 0."""
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    liked = interactions.where(interactions.newest & (interactions.strength > 0))
    of_user = np.bincount(liked.user, liked.strength, interactions.n_users)[liked.user]
    of_video = np.bincount(liked.video, liked.strength, n_videos)[liked.video]
    value = np.sqrt(liked.strength) * (of_user * of_video) ** -0.25
    shape = (interactions.n_users, n_videos)
    matrix = csr_matrix((value.astype(np.float32), (liked.user, liked.video)), shape=shape)
    back = matrix.T.tocsr()
    rank = min(width, *shape)
    sketch = min(rank + OVERSAMPLE, *shape)
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(n_videos, sketch)).astype(np.float32)
    with threadpool_limits(1, "blas"):
        for _ in range(ROUNDS):
            left, _ = np.linalg.qr(matrix @ basis)
            basis, _ = np.linalg.qr(back @ left)
        _, weight, turn = np.linalg.svd(matrix @ basis, full_matrices=False)
    found = np.zeros((n_videos, width), np.float32)
    found[:, :rank] = (basis @ turn.T)[:, :rank] * np.sqrt(weight[:rank])
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(np.where(length > 1e-6, found / np.maximum(length, 1e-6), 0), dtype=np.float32)

"""How much each video argues for each other one: a linear model of videos by videos, in closed form.

Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019): B = I - P / diag(P), with P the
inverse of the users' Gram matrix and a ridge. Users' rows are divided by the root of their sum, so that those
who watch everything do not say most. Unlike a cosine, a weight is what a video adds to the others watched.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import spotrf, spotri
from scipy.sparse import csr_matrix, diags
from threadpoolctl import threadpool_limits

from upnext.errors import CorruptData

BLOCK = 1_024
"""Rows that are gathered or mirrored at once."""


def item_weights(liked: csr_matrix, ridge: float) -> NDArray[np.float32]:
    """What watching video i (row) says for video j (column), float32[m, m], 0 on the diagonal.

    liked: float32[users, m], at least 0. Takes m² · 4 bytes and m³ operations, on one thread.
    """
    of_user = np.sqrt(np.asarray(liked.sum(axis=1)).ravel())
    scaled = csr_matrix(diags(1 / np.maximum(of_user, 1e-6)) @ liked, dtype=np.float32)
    by_video, m = scaled.T.tocsr(), liked.shape[1]
    gram = np.empty((m, m), np.float32)
    for at in range(0, m, BLOCK):
        gram[at : at + BLOCK] = (by_video[at : at + BLOCK] @ scaled).toarray()
    gram[np.diag_indices(m)] += ridge
    with threadpool_limits(1, "blas"):
        _, failed = spotrf(gram.T, lower=0, overwrite_a=1)
        failed = failed or spotri(gram.T, lower=0, overwrite_c=1)[1]
    if failed:
        raise CorruptData(f"the videos' Gram matrix has no inverse with a ridge of {ridge}: raise it")
    return _weights(gram)


def _weights(inverse: NDArray[np.float32]) -> NDArray[np.float32]:
    """From an inverse of which the lower half is known, in place."""
    for at in range(0, len(inverse), BLOCK):
        end = at + BLOCK
        inverse[at:end, end:] = inverse[end:, at:end].T
        square = np.tril(inverse[at:end, at:end])
        inverse[at:end, at:end] = square + np.tril(square, -1).T
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0)
    return inverse

"""Where the embeddings of words, creators and pictures start: at what they tell of a video's direction.

A video's embedding is the sum of its own and of what is known of it. A ridge regression of the directions
that the log gives (:mod:`models.spectral`) on the content shares each one out: what content explains goes to
the content, the rest stays the video's own. So known videos start as the log says, and one that nobody has
watched starts where videos like it are, instead of where a few hundred steps happen to bring it.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from models.video_inputs import (
    CATEGORY_BUCKETS,
    CREATOR_BUCKETS,
    DURATION_BUCKETS,
    TOKEN_BUCKETS,
    VideoInputs,
)

RIDGE = 3.0
"""Well-known videos that a word, creator or category must have to be believed by half."""
WELL_KNOWN = 20
"""Engagements from which a video counts in full."""
ROUNDS = 20
"""Of conjugate gradients; more change nothing that can be measured."""
PICTURE = 3.0
"""Scale of the pictures' columns, so that the ridge binds 32 of them about as much as one category."""


def content_start(
    inputs: VideoInputs, directions: NDArray[np.float32], engagements: NDArray[np.integer]
) -> dict[str, NDArray[np.float32]]:
    """Tables tokens, creator, category and duration float32[buckets, E], and visual float32[E, 32].

    directions: float32[n, E], what the content is to explain; engagements: int[n], how often each video was
    taken, 0 where its direction is unknown.
    """
    design, bounds = _design(inputs)
    weight = np.minimum(engagements, WELL_KNOWN).astype(np.float32) / WELL_KNOWN
    weighted = design.multiply(weight[:, None]).tocsr()
    found = _conjugate_gradients(design, weighted, np.asarray(weighted.T @ directions, np.float32))
    parts = {name: found[first:last] for name, (first, last) in bounds.items()}
    for name in ("tokens", "creator", "category", "duration"):
        parts[name][0] = 0
    parts["visual"] = PICTURE * parts["visual"].T
    return parts


def explained(inputs: VideoInputs, tables: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """float32[n, E], what such tables make of some videos' content."""
    there = inputs.tokens > 0
    words = tables["tokens"][inputs.tokens].sum(axis=1) / np.maximum(there.sum(axis=1, keepdims=True), 1)
    about = sum(tables[name][getattr(inputs, name)] for name in ("creator", "category", "duration"))
    return np.asarray(words + about + inputs.visual @ tables["visual"].T, np.float32)


def _design(inputs: VideoInputs) -> tuple[csr_matrix, dict[str, tuple[int, int]]]:
    """Sparse [n, columns], and which columns are whose."""
    n = len(inputs)
    there = inputs.tokens > 0
    share = 1 / np.maximum(there.sum(axis=1), 1)
    row, place = np.nonzero(there)
    tokens = csr_matrix(
        (share[row].astype(np.float32), (row, inputs.tokens[row, place])), shape=(n, TOKEN_BUCKETS)
    )
    blocks = {
        "tokens": tokens,
        "creator": _one_of(inputs.creator, CREATOR_BUCKETS),
        "category": _one_of(inputs.category, CATEGORY_BUCKETS),
        "duration": _one_of(inputs.duration, DURATION_BUCKETS),
        "visual": csr_matrix(PICTURE * inputs.visual),
    }
    ends = np.cumsum([block.shape[1] for block in blocks.values()])
    bounds = {
        name: (int(end) - block.shape[1], int(end))
        for (name, block), end in zip(blocks.items(), ends, strict=True)
    }
    return hstack(list(blocks.values()), format="csr", dtype=np.float32), bounds


def _one_of(codes: NDArray[np.int64], buckets: int) -> csr_matrix:
    """One-hot; the unknown 0 is in no column."""
    row = np.flatnonzero(codes)
    return csr_matrix((np.ones(len(row), np.float32), (row, codes[row])), shape=(len(codes), buckets))


def _conjugate_gradients(
    design: csr_matrix, weighted: csr_matrix, target: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Solve (AᵀWA + ridge) X = target for all columns of X at once, from X = 0."""
    found, residual = np.zeros_like(target), target.copy()
    way, size = residual.copy(), (residual**2).sum(axis=0)
    for _ in range(ROUNDS):
        moved = weighted.T @ (design @ way) + RIDGE * way
        step = size / np.maximum((way * moved).sum(axis=0), 1e-20)
        found += step * way
        residual -= step * moved
        before, size = size, (residual**2).sum(axis=0)
        way = residual + size / np.maximum(before, 1e-20) * way
    return found

"""Affinities: dot products of a viewer's hashed tastes and a candidate's hashed words, all of them stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.cross_specs import AFFINITY_NAMES
from models.specs import components

PAIRS = {
    "affinity_category": ("taste_category", "category_hash"),
    "affinity_creator": ("taste_creator", "creator_hash"),
    "affinity_tag": ("taste_tag", "tag_hash"),
    "affinity_history": ("history_tag", "tag_hash"),
}
"""Affinity, and the vectors of the viewer and of the candidate that it is the product of."""


@dataclass(frozen=True)
class Affinities:
    """Where the vectors lie in the stored features of viewers and of videos."""

    places: tuple[tuple[list[int], list[int]], ...]
    tags: list[int]

    @classmethod
    def of(cls, user: Sequence[str], video: Sequence[str]) -> "Affinities":
        """By the names of both; a vector that one of them lacks gives 0."""
        found = tuple((components(user, taste), components(video, words)) for taste, words in PAIRS.values())
        return cls(found, components(video, "tag_hash"))

    def features(
        self, user: NDArray[np.float32], video: NDArray[np.float32], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """float32[k, 5] in the order of AFFINITY_NAMES.

        Parameters
        ----------
        user: float32[k, du] or, for one viewer, float32[1, du]
        video: float32[k, dv]
        query: float32[k, w] or float32[1, w], the last search as :func:`models.hashing.hashed_texts` has it
        """
        out = np.zeros((len(video), len(AFFINITY_NAMES)), np.float32)
        for column, (taste, words) in enumerate(self.places):
            if len(taste) == len(words):
                out[:, column] = _products(user[:, taste], video[:, words])
        if self.tags:
            out[:, -1] = _products(query, video[:, self.tags])
        return out


def _products(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[k], of rows; one row on the left stands beside each on the right."""
    products: NDArray[np.float32] = right @ left[0] if len(left) == 1 else np.einsum("kd,kd->k", left, right)
    return products

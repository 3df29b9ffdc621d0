"""Decayed counts of what is watched, everywhere and by region: baseline, trending and last fallback."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.columns import codes, distinct, flags, floats, micros
from models.files import arrays_of, reading
from models.history import SECOND, strength

HALF_LIFE_H = 24.0
"""Hours after which an engagement counts half, by default."""


@dataclass(frozen=True)
class Popularity:
    """Engagement by region and video, an engagement counting half after each half-life.

    counts: float32[R + 1, n]; row 0 is everywhere, row 1 + r is ``regions[r]``.
    as_of: microseconds since 1970 UTC, the time that ages were taken at.
    """

    counts: NDArray[np.float32]
    regions: tuple[str, ...]
    as_of: int
    half_life_h: float = HALF_LIFE_H

    @classmethod
    def fit(
        cls,
        video: NDArray[np.int32],
        ts: NDArray[np.int64],
        weight: NDArray[np.float32],
        region: pa.Array | pa.ChunkedArray,
        *,
        n_videos: int,
        as_of: int,
        half_life_h: float = HALF_LIFE_H,
    ) -> "Popularity":
        """Count m engagements before ``as_of``; later ones and negative weights count nothing.

        Parameters
        ----------
        video: int32[m], catalogue rows
        ts: int64[m], microseconds
        weight: float32[m], what each counts at age 0
        region: str[m], null unknown
        """
        if half_life_h <= 0:
            raise ValueError(f"half_life_h is {half_life_h}, not above 0")
        regions = distinct(region)
        age_h = (as_of - ts) / (3600 * SECOND)
        value = np.where(age_h >= 0, np.maximum(weight, 0) * 0.5 ** (np.maximum(age_h, 0) / half_life_h), 0.0)
        cell = (codes(region, regions).astype(np.int64) + 1) * n_videos + video
        counts = np.bincount(cell, value, (len(regions) + 1) * n_videos).reshape(len(regions) + 1, n_videos)
        counts[0] = counts.sum(axis=0)
        return cls(counts.astype(np.float32), regions, as_of, half_life_h)

    @classmethod
    def of(
        cls, outcomes: pa.Table, catalogue: Catalogue, as_of: int, half_life_h: float = HALF_LIFE_H
    ) -> "Popularity":
        """From the lake's ``outcomes``: each counts its strength (:func:`models.history.strength`)."""
        video = catalogue.rows(outcomes["video_id"])
        signals = [flags(outcomes[name]) for name in ("clicked", "liked", "shared", "not_interested")]
        value = strength(np.nan_to_num(floats(outcomes["watch_fraction"])), *signals)
        return cls.fit(
            np.maximum(video, 0),
            micros(outcomes["engaged_at"]),
            np.where(video >= 0, value, 0).astype(np.float32),
            outcomes["region"],
            n_videos=len(catalogue),
            as_of=as_of,
            half_life_h=half_life_h,
        )

    def scores(self, region: str | None = None) -> NDArray[np.float32]:
        """float32[n]; of everywhere where the region is unknown."""
        row = self.regions.index(region) + 1 if region in self.regions else 0
        return np.asarray(self.counts[row])

    def top(
        self, k: int, region: str | None = None, allowed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int32]:
        """At most k rows of videos that were engaged with, most popular first; ties by row.

        allowed: bool[n], False for videos to leave out.
        """
        scores = self.scores(region) if allowed is None else np.where(allowed, self.scores(region), 0)
        best = np.argsort(-scores, kind="stable")[:k]
        return best[scores[best] > 0].astype(np.int32)

    def save(self, path: Path) -> None:
        """Write one .npz file."""
        regions = np.asarray(self.regions, dtype=np.str_)
        np.savez(path, counts=self.counts, regions=regions, as_of=self.as_of, half_life_h=self.half_life_h)

    @classmethod
    def load(cls, path: Path) -> "Popularity":
        """Read what :meth:`save` wrote."""
        with reading("popularity", path), arrays_of(path) as arrays:
            regions = tuple(str(name) for name in arrays["regions"])
            return cls(arrays["counts"], regions, int(arrays["as_of"]), float(arrays["half_life_h"]))

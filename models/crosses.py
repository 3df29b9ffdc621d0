"""Features of a viewer and a candidate together, computed by the same code in training and in serving.

Training calls it with C = 1 per example, serving with B = 1 and about a thousand candidates. Unknown is NaN;
the ranker deals with it. Times enter as log(1 + hours), strengths as in :mod:`models.history`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.cross_specs import CROSS_NAMES
from models.files import mapped_anew
from models.history import SECOND, Histories
from models.neighbours import Neighbours
from models.popularity import Popularity
from models.stacked import Vectors

LENGTH = 50
"""Entries of a history that are looked at, the newest."""
VOTERS = 200
"""The same where they vote for candidates by who liked both: old entries say much there."""
RECENT_S = 86_400.0
"""Half-life of an entry's weight in what is called recent, seconds."""
PRIOR = 1.0
"""Strength of the prior that shares and means are shrunk with: one fully watched video."""
BATCH = 4_096
"""Viewer-candidate pairs per block where a block gathers [pairs, LENGTH, d]."""
NORMED = 65_536
"""Rows whose lengths are found at once: their squares are as large as they are."""

Column = NDArray[Any]


@dataclass(frozen=True)
class Viewers:
    """What is known of B viewers at the time of their requests; computed once per request.

    histories: [B, L], VOTERS long where so much is known.
    als, tower: float32[B, d], the viewers' vectors in each space; zeros for nobody.
    now: int64[B], microseconds since 1970 UTC.
    region: int32[B], rows of ``Popularity.counts``; 0 unknown.
    language: int32[B], codes into ``Crosses.languages``; -1 unknown.
    """

    histories: Histories
    als: NDArray[np.float32]
    tower: NDArray[np.float32]
    now: NDArray[np.int64]
    region: NDArray[np.int32]
    language: NDArray[np.int32]

    def __getitem__(self, which: slice | NDArray[Any]) -> "Viewers":
        """Some of the viewers."""
        return Viewers(
            histories=self.histories[which],
            als=self.als[which],
            tower=self.tower[which],
            now=self.now[which],
            region=self.region[which],
            language=self.language[which],
        )


@dataclass(frozen=True)
class Crosses:
    """The models and tables that cross features are read from, all in catalogue rows.

    als_items, tower_items: float32[n, d], one vector per video; visual_items the same of length 1 or zeros,
    None where nobody has looked at the videos. neighbours: what each video says for others, n rows.
    """

    catalogue: Catalogue
    als_items: Vectors
    tower_items: Vectors
    popularity: Popularity
    neighbours: Neighbours
    visual_items: Vectors | None = None

    def __post_init__(self) -> None:
        for name, rows in (
            ("als_items", len(self.als_items)),
            ("tower_items", len(self.tower_items)),
            ("visual_items", len(self.catalogue if self.visual_items is None else self.visual_items)),
            ("popularity", self.popularity.counts.shape[1]),
            ("neighbours", len(self.neighbours.rows)),
        ):
            if rows != len(self.catalogue):
                raise ValueError(f"{name} has {rows} rows for a catalogue of {len(self.catalogue)} videos")

    def features(self, viewers: Viewers, candidates: NDArray[np.int32]) -> NDArray[np.float32]:
        """float32[B, C, dx] for candidates int32[B, C], catalogue rows, none of them unknown."""
        count, width = candidates.shape
        planes = np.empty((len(CROSS_NAMES), count, width), np.float32)  # each written in one go
        step = max(1, BATCH // max(width, 1))
        for start in range(0, count, step):
            part = slice(start, start + step)
            for place, values in enumerate(self._columns(viewers[part], candidates[part])):
                planes[place, part] = values
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def pairs(
        self, viewers: Viewers, viewer: NDArray[np.integer], video: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """float32[k, dx] for k pairs: int[k], indices into ``viewers``, and int32[k], catalogue rows.

        The candidates of one viewer are taken together, so its history is gathered once.
        """
        out = np.empty((len(viewer), len(CROSS_NAMES)), np.float32)
        order = np.argsort(viewer, kind="stable")
        which, first, counts = np.unique(viewer[order], return_index=True, return_counts=True)
        for count in np.unique(counts):
            same = counts == count
            places = order[first[same][:, None] + np.arange(count)]
            out[places] = self.features(viewers[which[same]], video[places])
        return out

    def region_codes(self, names: Sequence[str | None]) -> NDArray[np.int32]:
        """What :class:`Viewers` wants as ``region``; 0 for one that popularity doesn't know."""
        code = {name: row + 1 for row, name in enumerate(self.popularity.regions)}
        return np.array([code.get(name or "", 0) for name in names], np.int32)

    def language_codes(self, names: Sequence[str | None]) -> NDArray[np.int32]:
        """What :class:`Viewers` wants as ``language``; -1 for one that no video has."""
        code = {name: row for row, name in enumerate(self.languages)}
        return np.array([code.get(name or "", -1) for name in names], np.int32)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Distinct languages of the catalogue by code, sorted."""
        return tuple(sorted(name for name in pc.unique(self.catalogue.table["language"]).to_pylist() if name))

    @cached_property
    def language(self) -> NDArray[np.int32]:
        """int32[n], codes into ``languages``; -1 unknown."""
        known = pa.array(self.languages, pa.string())
        encoded = pc.index_in(self.catalogue.table["language"], value_set=known)
        return np.asarray(pc.fill_null(encoded, -1).to_numpy(), np.int32)

    @cached_property
    def log_popularity(self) -> NDArray[np.float32]:
        """float32[R + 1, n], log of the count over the region's mean count: the same scale on any volume."""
        return _relative(self.popularity.counts, self._mean_counts)

    @cached_property
    def log_of_none(self) -> NDArray[np.float32]:
        """float32[R + 1], the same for a video that nobody watches."""
        return _relative(np.zeros(len(self.popularity.counts), np.float32), self._mean_counts[:, 0])

    def log_counts(
        self, region: int | NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """``log_popularity`` of some candidates in some regions, which broadcast."""
        found: NDArray[np.float32] = self.log_popularity[region, candidates]
        return found

    @cached_property
    def _mean_counts(self) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = self.popularity.counts.mean(axis=1, keepdims=True)
        return mean

    @cached_property
    def als_inverse(self) -> NDArray[np.float32]:
        return inverse_norm(mapped_anew(np.asanyarray(self.als_items)))

    @cached_property
    def tower_inverse(self) -> NDArray[np.float32]:
        return inverse_norm(mapped_anew(np.asanyarray(self.tower_items)))

    @cached_property
    def log_duration(self) -> NDArray[np.float32]:
        return np.log(self.catalogue.duration_s)

    def _columns(self, viewers: Viewers, candidates: NDArray[np.int32]) -> Iterator[Column]:
        """Every feature in the order of CROSS_NAMES, broadcastable to [B, C]."""
        history = viewers.histories.newest(LENGTH)
        history = history.newest(int(history.mask.sum(axis=1).max(initial=0)))
        yield from self._similarities(self.als_items, self.als_inverse, viewers.als, history, candidates)
        yield from self._similarities(
            self.tower_items, self.tower_inverse, viewers.tower, history, candidates
        )
        for codes in (self.catalogue.category, self.catalogue.creator):
            yield from _affinity(codes, history, candidates)
        yield from _seen(history, candidates)
        yield from self._candidate(viewers, history, candidates)
        entries = history.mask
        yield np.log1p(entries.sum(axis=1))[:, None]
        yield (history.strength.sum(axis=1) / (entries.sum(axis=1) + PRIOR))[:, None]
        yield _hours_since(entries, history.age_s)[:, None]
        yield self._looks(history, candidates)
        yield self.neighbours.votes(viewers.histories.newest(VOTERS), candidates)

    def _looks(self, history: Histories, candidates: NDArray[np.int32]) -> Column:
        """Mean cosine of the candidates' looks and those of what was liked, mostly of the last day."""
        if self.visual_items is None:
            return np.zeros((1, 1), np.float32)
        liked = _shares(np.maximum(history.strength, 0) * np.exp2(-history.age_s / RECENT_S))
        profile = np.matmul(liked[:, None, :], self.visual_items[np.maximum(history.rows, 0)])
        cosine: Column = np.matmul(self.visual_items[candidates], profile.transpose(0, 2, 1))[:, :, 0]
        return cosine

    def _similarities(
        self,
        items: Vectors,
        inverse: NDArray[np.float32],
        user: NDArray[np.float32],
        history: Histories,
        candidates: NDArray[np.int32],
    ) -> Iterator[Column]:
        """Score, and cosines to what the viewer liked: greatest, mean, recent mean, sum of fourth powers."""
        vectors, liked = items[candidates], np.maximum(history.strength, 0)
        rows = np.maximum(history.rows, 0)
        yield np.matmul(vectors, user[:, :, None])[:, :, 0]
        # An entry of the history per line: what is taken over entries runs along all candidates at once.
        cosine = np.matmul(items[rows] * inverse[rows][:, :, None], vectors.transpose(0, 2, 1))
        cosine *= inverse[candidates][:, None, :]
        recent = liked * np.exp2(-history.age_s / RECENT_S)
        passed_over = np.where(liked > 0, np.float32(0), np.float32(-2))[
            :, :, None
        ]  # and so below any cosine
        yield (cosine + passed_over).max(axis=1, initial=-1)
        means = np.matmul(np.stack([_shares(liked), _shares(recent)], axis=1), cosine)
        yield means[:, 0]
        yield means[:, 1]
        np.maximum(cosine, 0, out=cosine)
        cosine *= cosine
        cosine *= cosine
        yield np.log1p(np.matmul(liked[:, None, :], cosine)[:, 0])

    def _candidate(
        self, viewers: Viewers, history: Histories, candidates: NDArray[np.int32]
    ) -> Iterator[Column]:
        yield self.log_counts(0, candidates)
        yield self.log_counts(viewers.region[:, None], candidates)
        uploaded = self.catalogue.uploaded_at[candidates]
        age_s = (viewers.now[:, None] - uploaded) / SECOND
        yield np.where(uploaded > 0, np.log1p(np.maximum(age_s, 0) / 3600), np.nan)
        duration = self.log_duration[candidates]
        yield duration
        watched = self.log_duration[np.maximum(history.rows, 0)]
        weight = np.where(np.isnan(watched), 0, np.maximum(history.strength, 0))
        total = weight.sum(axis=1)
        usual = np.full(len(total), np.nan)
        np.divide((weight * np.nan_to_num(watched)).sum(axis=1), total, out=usual, where=total > 0)
        yield duration - usual[:, None]
        theirs, spoken = self.language[candidates], viewers.language[:, None]
        yield np.where((theirs >= 0) & (spoken >= 0), theirs == spoken, np.nan)


def _affinity(
    codes: NDArray[np.int32], history: Histories, candidates: NDArray[np.int32]
) -> Iterator[Column]:
    """How a viewer took to what has the candidate's category or creator; NaN where that is unknown.

    Its share of all the strength and its mean strength, both shrunk; how often, and the hours since.
    """
    entries = history.mask
    owner = codes[candidates]
    theirs = np.where(entries, codes[np.maximum(history.rows, 0)], -1)
    theirs = np.where(theirs < 0, -2, theirs)  # not the -1 of a candidate
    same = theirs[:, :, None] == owner[:, None, :]
    liked = np.maximum(history.strength, 0)
    usual = history.strength.sum(axis=1) / np.maximum(entries.sum(axis=1), 1)
    told = np.stack([liked, history.strength, entries], axis=1)
    share, strength, count = np.matmul(told, same.astype(np.float32)).transpose(1, 0, 2)
    unknown = owner < 0
    yield np.where(unknown, np.nan, share / (liked.sum(axis=1) + PRIOR)[:, None])
    yield np.where(unknown, np.nan, (strength + PRIOR * usual[:, None]) / (count + PRIOR))
    yield np.where(unknown, np.nan, np.log1p(count))
    yield _hours_since(same, history.age_s[:, :, None])


def _seen(history: Histories, candidates: NDArray[np.int32]) -> Iterator[Column]:
    """Whether the viewer already met the candidate, what came of it, and the hours since."""
    same = history.rows[:, :, None] == candidates[:, None, :]
    yield same.any(axis=1)
    yield np.matmul(history.strength[:, None, :], same.astype(np.float32))[:, 0]
    yield _hours_since(same, history.age_s[:, :, None])


def _hours_since(which: NDArray[np.bool_], age_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """log(1 + hours) since the newest of the entries, on axis 1, that ``which`` marks; NaN for none."""
    newest = np.where(which, age_s, np.float32(np.inf)).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(newest), np.log1p(newest / 3600), np.nan).astype(np.float32)


def _relative(counts: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.log((counts + 0.01 * mean + 1e-6) / (mean + 1e-6)), np.float32)


def _shares(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of float32[B, L] that sum to one, or to less where there is hardly anything."""
    return np.asarray(weights / (weights.sum(axis=1, keepdims=True) + 1e-6), np.float32)


def inverse_norm(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[n], 1 / length of each row."""
    out = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), NORMED):
        part = slice(start, start + NORMED)
        out[part] = 1 / np.maximum(np.linalg.norm(vectors[part], axis=1), 1e-12)
    return out

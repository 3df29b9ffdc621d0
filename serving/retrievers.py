"""Where candidates come from. Every retriever answers for a crowd at once and says what its evidence is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.stacked import Stacked
from serving.candidates import Candidates
from serving.groups import Groups
from serving.search import Texts
from serving.trending import Trending
from serving.viewer import Crowd, Viewer

Vectors = NDArray[np.float32]
EVER = 36_500.0
"""Days."""


class Index(Protocol):
    """Nearest items by inner product."""

    def search(self, queries: Vectors, k: int) -> tuple[NDArray[np.int32], Vectors]:
        """Rows int32[B, k], -1 where there are fewer, and scores float32[B, k], best first."""
        ...


class Retriever(Protocol):
    """One source of candidates."""

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        """At most k candidates for each viewer; none where this source has nothing to say."""
        ...


@dataclass(frozen=True)
class Nearest:
    """Items nearest to a viewer's vector in a space of ALS or of the towers.

    space: picks the crowd's vectors, float32[B, d]; a row of zeros is a viewer of whom nothing is known.
    """

    space: Callable[[Crowd], Vectors]
    index: Index

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        queries = self.space(crowd)
        rows, scores = self.index.search(queries, k)
        known = np.any(queries != 0, axis=1)
        return [
            Candidates.of(row, score).where(row >= 0) if told else Candidates.none()
            for row, score, told in zip(rows, scores, known, strict=True)
        ]


@dataclass(frozen=True)
class BecauseYouWatched:
    """Neighbours of what a viewer liked best lately; a neighbour's evidence is the video that argues most.

    rows int32[n, m], scores float32[n, m]: each video's neighbours, best first, -1 where there are fewer.
    What has no score above 0 is not alike.
    """

    rows: NDArray[np.int32] | Stacked[np.int32]
    scores: Vectors | Stacked[np.float32]
    watched: int = 50
    """Videos of the past that are looked at."""

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        return [self._of(viewer, k) for viewer in crowd.viewers]

    def _of(self, viewer: Viewer, k: int) -> Candidates:
        if viewer.seed >= 0:
            seeds, weights = np.asarray([viewer.seed]), np.ones(1, np.float32)
        else:
            seeds, weights = favourites(viewer, self.watched)
        if not len(seeds):
            return Candidates.none()
        rows = self.rows[seeds].ravel()
        votes = (self.scores[seeds] * weights[:, None]).ravel()
        because = np.repeat(seeds, self.rows.shape[1])
        keep = (rows >= 0) & (votes > 0)
        return strongest(rows[keep], votes[keep], because[keep], k)


@dataclass(frozen=True)
class SameGroup:
    """The best videos of the creators, or categories, that a viewer liked.

    codes int32[n]: each video's creator or category, -1 unknown; ``named``: topics told at sign-up -> code.
    A candidate's evidence is the newest video of the past that is in its group.
    """

    codes: NDArray[np.int32]
    groups: Groups
    most: int = 10
    """Groups that are looked at."""
    named: dict[str, int] | None = None

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        return [self._of(viewer, k) for viewer in crowd.viewers]

    def _of(self, viewer: Viewer, k: int) -> Candidates:
        if viewer.seed >= 0:
            past, weights = np.asarray([viewer.seed]), np.ones(1, np.float32)
        else:
            past, weights = favourites(viewer, len(viewer.seen))
        known = self.codes[past] >= 0
        past, weights = past[known], weights[known]
        if not len(past):
            return self._named(viewer, k)
        codes, first, inverse = np.unique(self.codes[past], return_index=True, return_inverse=True)
        liking = np.bincount(inverse, weights)
        best = np.argsort(-liking, kind="stable")[: self.most]
        codes, liking, because = codes[best], liking[best], past[first[best]]
        quota = np.ceil(k * liking / liking.sum()).astype(np.int64)
        rows, which = self.groups.take(codes, quota)
        within = np.concatenate([np.arange(n) for n in np.bincount(which, minlength=len(codes))])
        score = liking[which] / (1 + within)
        order = np.argsort(-score, kind="stable")[:k]
        return Candidates.of(rows[order], score[order], because[which[order]])

    def _named(self, viewer: Viewer, k: int) -> Candidates:
        told = [self.named[topic] for topic in viewer.topics if topic in self.named] if self.named else []
        if not told:
            return Candidates.none()
        rows, which = self.groups.take(np.asarray(told), np.full(len(told), -(-k // len(told))))
        within = np.concatenate([np.arange(n) for n in np.bincount(which, minlength=len(told))])
        order = np.argsort(within, kind="stable")[:k]
        return Candidates.of(rows[order], 1 / (1 + within[order]))


@dataclass(frozen=True)
class OneTopic:
    """The best videos of the one category that the viewer asks for, as the only one of its topics."""

    groups: Groups
    named: Mapping[str, int]

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        found = []
        for viewer in crowd.viewers:
            codes = [self.named[topic] for topic in viewer.topics[:1] if topic in self.named]
            rows, _ = self.groups.take(np.asarray(codes, np.int64), np.full(len(codes), k))
            found.append(Candidates.of(rows, -np.arange(len(rows), dtype=np.float32)))
        return found


@dataclass(frozen=True)
class TrendingNow:
    """What is watched most in the viewer's region."""

    trending: Trending

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        tops = (self.trending.top(viewer.region) for viewer in crowd.viewers)
        return [Candidates.of(rows[:k], scores[:k]) for rows, scores in tops]


@dataclass(frozen=True)
class NewReleases:
    """The latest uploads. Row order is upload order in each part: they are its last rows before ``now``."""

    catalogue: Catalogue
    days: float = 30.0

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        uploaded, active = self.catalogue.uploaded_at, self.catalogue.active
        found = []
        for viewer in crowd.viewers:
            parts = [self._latest(part, viewer.now, 2 * k) for part in self.catalogue.parts]
            rows = np.concatenate(parts)
            if len(parts) > 1:
                rows = rows[np.argsort(-uploaded[rows], kind="stable")]
            rows = rows[active[rows]][:k]
            found.append(Candidates.of(rows, uploaded[rows].astype(np.float64)))
        return found

    def _latest(self, part: slice, now: int, most: int) -> NDArray[np.int64]:
        """Rows of a part that is in order of upload, newest first."""
        oldest = max(now - int(self.days * 86_400e6), 1)
        first, last = np.searchsorted(self.catalogue.uploaded_at[part], [oldest, now + 1])
        rows: NDArray[np.int64] = part.start + np.arange(max(first, last - most), last)[::-1]
        return rows


@dataclass(frozen=True)
class SearchIntent:
    """Videos that match what the viewer searched for a moment ago."""

    text: Texts

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        return [
            self.text.search(viewer.query, k) if viewer.query else Candidates.none()
            for viewer in crowd.viewers
        ]


def favourites(viewer: Viewer, most: int) -> tuple[NDArray[np.int32], Vectors]:
    """What the viewer liked best: rows int32[≤ most], weights float32 (strength, halved every two weeks)."""
    weights = viewer.strength * np.exp2(-viewer.age_s / (14 * 86_400.0))
    best = np.argsort(-weights, kind="stable")[:most]
    best = best[weights[best] > 0]
    return viewer.seen[best], weights[best]


def strongest(rows: NDArray[np.int32], votes: Vectors, because: NDArray[np.integer], k: int) -> Candidates:
    """Sum votes by row; the evidence of a row is what voted most for it."""
    order = np.lexsort((-votes, rows))
    distinct, first = np.unique(rows[order], return_index=True)
    if not len(distinct):
        return Candidates.none()
    total = np.add.reduceat(votes[order], first)
    best = np.argsort(-total, kind="stable")[:k]
    return Candidates.of(distinct[best], total[best], because[order][first[best]])

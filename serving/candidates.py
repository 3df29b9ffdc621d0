"""Candidates as arrays of catalogue rows, and their union over retrievers.

Rows are integers all the way through the funnel; ids appear only at its edges.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

UNRANKED = np.iinfo(np.int16).max
RRF = 60.0
"""Damping of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""


@dataclass(frozen=True)
class Candidates:
    """What one retriever found, best first; a row appears once.

    rows: int32[n] catalogue rows; scores: float32[n], comparable within this retriever only;
    evidence: int32[n], the catalogue row that a candidate is here because of, -1 for none.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    evidence: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        rows: NDArray[np.integer],
        scores: NDArray[np.floating],
        evidence: NDArray[np.integer] | int = -1,
    ) -> Self:
        because = np.broadcast_to(np.asarray(evidence, np.int32), rows.shape)
        return cls(rows.astype(np.int32), scores.astype(np.float32), because)

    @classmethod
    def none(cls) -> Self:
        empty = np.empty(0, np.int32)
        return cls(empty, empty.astype(np.float32), empty)

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: NDArray[np.bool_]) -> "Candidates":
        return Candidates(self.rows[keep], self.scores[keep], self.evidence[keep])

    def top(self, k: int) -> "Candidates":
        return Candidates(self.rows[:k], self.scores[:k], self.evidence[:k])


@dataclass(frozen=True)
class Pool:
    """The union of several retrievers' candidates, each row once, best fused rank first.

    names: the R retrievers; rows int32[n]; fused float32[n], reciprocal rank fusion;
    found uint32[n], bit r set where retriever r found it; ranks int16[R, n], its place there or UNRANKED;
    evidence int32[R, n].
    """

    names: tuple[str, ...]
    rows: NDArray[np.int32]
    fused: NDArray[np.float32]
    found: NDArray[np.uint32]
    ranks: NDArray[np.int16]
    evidence: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Pool":
        """The candidates at these places, in this order."""
        return Pool(
            self.names,
            self.rows[index],
            self.fused[index],
            self.found[index],
            self.ranks[:, index],
            self.evidence[:, index],
        )

    def sources(self, place: int) -> list[str]:
        """Names of the retrievers that found the candidate at one place."""
        bits = int(self.found[place])
        return [name for r, name in enumerate(self.names) if bits >> r & 1]


def union(found: Mapping[str, Candidates], weights: Mapping[str, float], limit: int) -> Pool:
    """Merge retrievers' candidates, keeping who found what and why; at most ``limit`` rows.

    Fused score: sum over retrievers of weight / (RRF + rank), with rank 0 at the top.
    """
    names = tuple(found)
    parts = [found[name] for name in names]
    stacked = np.concatenate([part.rows for part in parts]) if parts else np.empty(0, np.int32)
    rows, inverse = np.unique(stacked, return_inverse=True)
    n, r = len(rows), len(names)
    fused = np.zeros(n, np.float32)
    bits = np.zeros(n, np.uint32)
    ranks = np.full((r, n), UNRANKED, np.int16)
    evidence = np.full((r, n), -1, np.int32)
    start = 0
    for place, (name, part) in enumerate(zip(names, parts, strict=True)):
        at = inverse[start : start + len(part)]
        start += len(part)
        order = np.arange(len(part), dtype=np.float32)
        fused[at] += np.float32(weights.get(name, 1.0)) / (RRF + order)
        bits[at] |= np.uint32(1 << place)
        ranks[place, at] = np.minimum(order, UNRANKED - 1).astype(np.int16)
        evidence[place, at] = part.evidence
    best = np.argsort(-fused, kind="stable")[:limit]
    return Pool(names, rows.astype(np.int32), fused, bits, ranks, evidence).take(best)

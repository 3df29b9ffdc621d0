"""An index that takes new vectors and lets go of old ones without being built again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.files import reading
from models.index import ExactIndex, FaissIndex, Index, load_index, top_k
from upnext.errors import CorruptData

BASE, ADDED, REMOVED = "base", "added.npy", "removed.npy"


@dataclass(frozen=True)
class LiveIndex:
    """A built index, with vectors added since beside it and a mask over those removed.

    Some kinds of FAISS index cannot remove, and a memory-mapped one cannot change at all; this works on any
    of them, and each change is a new object, so searches under way see one state from start to end. Rows
    count on from the base's. What was removed is searched for and dropped, so build again once it is much.

    added: float32[m, d], searched exactly; removed: bool[n + m].
    """

    base: ExactIndex | FaissIndex
    added: NDArray[np.float32]
    removed: NDArray[np.bool_] = field(repr=False)

    @classmethod
    def of(cls, base: ExactIndex | FaissIndex) -> Self:
        """Nothing added, nothing removed."""
        width = base.vectors.shape[1] if isinstance(base, ExactIndex) else int(base.index.d)
        return cls(base, np.zeros((0, width), np.float32), np.zeros(len(base), np.bool_))

    def __len__(self) -> int:
        """Rows given out so far, removed ones too."""
        return len(self.removed)

    def with_added(self, vectors: NDArray[np.float32]) -> Self:
        """The same index and vectors float32[m, d] in the next m rows."""
        added = np.concatenate([self.added, ExactIndex.build(vectors).vectors])
        return type(self)(self.base, added, np.pad(self.removed, (0, len(vectors))))

    def without(self, rows: NDArray[np.integer]) -> Self:
        """The same index without some rows; IndexError for one that was never given out."""
        removed = self.removed.copy()
        if len(rows) and rows.min() < 0:
            raise IndexError(f"row {rows.min()} is none of the {len(self)} rows")
        removed[rows] = True
        return type(self)(self.base, self.added, removed)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """As :meth:`models.index.Index.search`."""
        rows, scores = self._base(queries, k)
        if len(self.added):
            new, of_new = _fetch(ExactIndex(self.added), self.removed[len(self.base) :], queries, k)
            rows = np.concatenate([rows, np.where(new >= 0, new + len(self.base), -1)], axis=1)
            scores = np.concatenate([scores, of_new], axis=1)
        best = top_k(scores, k)
        return np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)

    def _base(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return _fetch(self.base, self.removed[: len(self.base)], queries, k)

    def save(self, folder: Path) -> None:
        self.base.save(folder / BASE)
        np.save(folder / ADDED, self.added)
        np.save(folder / REMOVED, self.removed)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The base is memory-mapped where it can be."""
        base = load_index(folder / BASE)
        with reading("index", folder, ADDED, REMOVED):
            added, removed = np.load(folder / ADDED), np.load(folder / REMOVED)
        if len(removed) != len(base) + len(added):
            raise CorruptData(
                f"the index in {folder} has {len(removed)} rows, not {len(base)} + {len(added)}"
            )
        return cls(base, added, removed)


def _fetch(
    index: Index, removed: NDArray[np.bool_], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k best that are not removed, asking for ever more until there are k, or all were seen."""
    wanted = k + min(k, int(removed.sum()))
    while True:
        rows, scores = index.search(queries, wanted)
        kept = (rows >= 0) & ~removed[rows]
        exhausted = (rows < 0).any(axis=1)
        if ((kept.sum(axis=1) >= k) | exhausted).all() or wanted >= len(index):
            scores = np.where(kept, scores, -np.inf).astype(np.float32)
            order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
            found = np.where(
                np.take_along_axis(kept, order, axis=1), np.take_along_axis(rows, order, axis=1), -1
            )
            return found, np.take_along_axis(scores, order, axis=1)
        wanted = min(2 * wanted, len(index))

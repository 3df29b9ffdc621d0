"""Videos grouped by creator or category, each group best first, in one flat array."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Groups:
    """The rows of group c are rows[bounds[c]:bounds[c + 1]], best first.

    rows: int32[m]; bounds: int64[g + 1].
    """

    rows: NDArray[np.int32]
    bounds: NDArray[np.int64]

    @classmethod
    def by(
        cls, codes: NDArray[np.integer], merit: NDArray[np.floating], keep: NDArray[np.bool_], groups: int
    ) -> Self:
        """Group the rows that are kept and have a code ≥ 0; ``merit`` float[n], higher is better."""
        rows = np.flatnonzero(keep & (codes >= 0))
        rows = rows[np.lexsort((-merit[rows], codes[rows]))]
        bounds = np.searchsorted(codes[rows], np.arange(groups + 1))
        return cls(rows.astype(np.int32), bounds.astype(np.int64))

    def with_first(self, codes: NDArray[np.integer], rows: NDArray[np.int32], groups: int) -> Self:
        """The same, and rows int32[k] ahead of the others of their groups ``codes``; not those of -1.

        groups: how many there are now.
        """
        return self._with(codes, rows, groups, last=False)

    def with_last(self, codes: NDArray[np.integer], rows: NDArray[np.int32], groups: int) -> Self:
        """As :meth:`with_first`, behind the others."""
        return self._with(codes, rows, groups, last=True)

    def _with(self, codes: NDArray[np.integer], rows: NDArray[np.int32], groups: int, *, last: bool) -> Self:
        order = np.argsort(codes, kind="stable")
        order = order[codes[order] >= 0]
        codes, rows = codes[order], rows[order]
        bounds = np.pad(self.bounds, (0, groups + 1 - len(self.bounds)), mode="edge")
        joined = np.insert(self.rows, bounds[codes + int(last)], rows)
        return type(self)(joined, bounds + np.searchsorted(codes, np.arange(groups + 1)))

    def take(
        self, codes: NDArray[np.integer], quota: NDArray[np.integer]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The best ``quota`` int[c] rows of each group in ``codes`` int[c], and each one's place in codes."""
        starts = self.bounds[codes]
        sizes = np.minimum(self.bounds[np.asarray(codes) + 1] - starts, quota)
        which = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.rows[starts[which] + within], which

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

    def take(
        self, codes: NDArray[np.integer], quota: NDArray[np.integer]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The best ``quota`` int[c] rows of each group in ``codes`` int[c], and each one's place in codes."""
        starts = self.bounds[codes]
        sizes = np.minimum(self.bounds[np.asarray(codes) + 1] - starts, quota)
        which = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.rows[starts[which] + within], which

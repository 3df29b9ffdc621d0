"""Two matrices read as one: hundreds of megabytes of a release, and the rows that came after it."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Stacked(Generic[T]):
    """Two matrices as one, of which rows are gathered.

    base: T[n, d], rows 0 to n - 1; late: T[m, d], rows n to n + m - 1.
    """

    base: NDArray[T]
    late: NDArray[T]

    def __len__(self) -> int:
        return len(self.base) + len(self.late)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.base.shape[1:])

    def __getitem__(self, rows: NDArray[np.integer] | int) -> NDArray[T]:
        """T[..., d] of rows int[...]."""
        rows, first = np.asarray(rows), len(self.base)
        late = rows >= first
        found: NDArray[T] = self.base[np.where(late, 0, rows)]
        if late.any():
            found = np.where(late[..., None], self.late[np.where(late, rows - first, 0)], found)
        return found


Vectors = NDArray[np.float32] | Stacked[np.float32]
"""float32[n, d] of which rows are gathered."""

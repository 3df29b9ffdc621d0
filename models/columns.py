"""Arrow columns as numpy arrays, with nulls spelt out."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def codes(
    column: pa.Array | pa.ChunkedArray, values: Sequence[str] | pa.Array | pa.ChunkedArray
) -> NDArray[np.int32]:
    """int32, the place of each entry in ``values``; -1 where it is null or not among them."""
    known = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.string())
    found = pc.index_in(pc.cast(column, pa.string()), value_set=known, skip_nulls=True)
    return np.asarray(pc.fill_null(found, -1), dtype=np.int32)


def distinct(column: pa.Array | pa.ChunkedArray) -> tuple[str, ...]:
    """Distinct values, sorted, without null."""
    return tuple(sorted(pc.unique(pc.drop_null(column)).to_pylist()))


def micros(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Times as int64, microseconds since 1970 UTC; 0 where null."""
    time = pc.cast(column, pa.timestamp("us", "UTC"))
    return np.asarray(pc.fill_null(pc.cast(time, pa.int64()), 0), dtype=np.int64)


def floats(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """Numbers as float64; nan where null."""
    return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan), dtype=np.float64)


def flags(column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Truth values; False where null."""
    return np.asarray(pc.fill_null(column, False), dtype=np.bool_)

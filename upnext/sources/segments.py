"""Attributes of users that the contract has no column for, as ``name=value`` tokens."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UNKNOWN = ("UNKNOWN", "-124", "-124.0")
"""How the Kuaishou sets write that a value is not known."""


def segments(raw: pa.Table) -> pa.Table:
    """Users of text columns: user_id as it is, every other column as one token of segments.

    Null and unknown values give no token; a token is cut at 64 characters.
    """
    names = [name for name in raw.column_names if name != "user_id"]
    tokens = [_tokens(raw[name], name) for name in names]
    if not names:
        return raw.select(["user_id"])
    # row-major: entry (row, name) at row * len(names) + name, so that each row's tokens lie together
    order = np.arange(len(raw) * len(names)).reshape(len(names), len(raw)).T.ravel()
    flat = pa.chunked_array(tokens).combine_chunks().take(pa.array(order))
    known = flat.is_valid()
    counts = np.asarray(known).reshape(len(raw), len(names)).sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), flat.filter(known))
    return pa.table({"user_id": raw["user_id"], "segments": lists})


def _tokens(column: pa.ChunkedArray, name: str) -> pa.Array:
    unknown = pc.is_in(column, value_set=pa.array(UNKNOWN))
    values = pc.if_else(unknown, None, column.cast(pa.string()))
    joined = pc.utf8_slice_codeunits(pc.binary_join_element_wise(name, values, "="), 0, 64)
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined

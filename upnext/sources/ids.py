"""Deterministic event ids: the same row read again gets the same id, so that it counts once.

The ids have the shape of RFC 9562's version 8 UUIDs (custom): 122 bits of a hash of the row's content.
They are made for whole columns at once; hashing row by row would dominate the reading of a large log.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint8).reshape(256, 2)
_DASHES = [8, 13, 18, 23]
_DIGITS = [place for place in range(36) if place not in _DASHES]
_SEEDS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
_NULL = np.array([[0x5851F42D4C957F2D], [0x14057B7EF767814F]], np.uint64)
"""Two words that differ, unlike those of any number."""

Words = NDArray[np.uint64]


Column: TypeAlias = pa.Array | pa.ChunkedArray | str


def row_ids(*columns: Column) -> pa.StringArray:
    """Ids str[n] of rows by their content.

    columns: integer, time, boolean or string columns of one length n; a plain string is a constant, such
    as the kind of the event. The order of the columns matters, and null differs from every value.
    """
    return _format(_hash(columns))


def row_fractions(*columns: Column) -> NDArray[np.float64]:
    """Numbers in [0, 1), float64[n], spread evenly by the rows' content; columns as in :func:`row_ids`."""
    fractions: NDArray[np.float64] = (_hash(columns)[0] >> np.uint64(11)) * 2.0**-53
    return fractions


def _hash(columns: Sequence[Column]) -> Words:
    """uint64[2, n]: 128 bits for each row."""
    length = next(len(column) for column in columns if not isinstance(column, str))
    state = np.broadcast_to(_SEEDS[:, None], (2, length))
    for column in columns:
        words = _constant(column, length) if isinstance(column, str) else _words(column)
        state = _mix(_mix(state ^ words) + _SEEDS[:, None])
    return state


def _mix(x: Words) -> Words:
    """The finaliser of SplitMix64: each bit of the input stirs all 64 (Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _constant(text: str, length: int) -> Words:
    return np.repeat(_digests([text]), length, axis=1)


def _digests(texts: Sequence[str]) -> Words:
    """uint64[2, n]: two words for each string."""
    digests = b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, "<u8").reshape(-1, 2).T.astype(np.uint64)


def _words(column: pa.Array | pa.ChunkedArray) -> Words:
    """uint64[2, n] (or broadcastable to it) that stand for a column's values."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        encoded = column.dictionary_encode()
        distinct = _digests(encoded.dictionary.to_pylist() or [""])
        words = distinct[:, pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)]
    else:
        whole = pc.fill_null(column.cast(pa.int64()), 0)
        words = whole.to_numpy(zero_copy_only=False).view(np.uint64)[None, :]
    if column.null_count:
        words = np.where(column.is_null().to_numpy(zero_copy_only=False), _NULL, words)
    return words


def _format(state: Words) -> pa.StringArray:
    """Canonical text of the 128 bits in state uint64[2, n]."""
    raw = np.ascontiguousarray(state.T.astype(">u8")).view(np.uint8).reshape(-1, 16)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x80
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    text = np.full((len(raw), 36), ord("-"), np.uint8)
    text[:, _DIGITS] = _HEX[raw].reshape(-1, 32)
    offsets = np.arange(0, 36 * len(raw) + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(text))

"""Arrow columns built without a Python loop: ids of fixed width, UUIDs, names by code, nulls by mask."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from upnext.errors import NotFound
from upnext.world.draws import Keys

ID_DIGITS = 8
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_UUID_PLACES = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])


def fixed_width(text: NDArray[np.uint8]) -> pa.Array:
    """ASCII codes uint8[n, width] as strings."""
    n, width = text.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int64)
    parts = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text))]
    return pa.Array.from_buffers(pa.large_string(), n, parts).cast(pa.string())


def row_ids(letter: str, rows: NDArray[np.int64]) -> pa.Array:
    """Ids such as u00000012 of rows below 100 million: string[n]; they sort as the rows do."""
    text = np.empty((len(rows), ID_DIGITS + 1), dtype=np.uint8)
    text[:, 0] = ord(letter)
    rest = rows.astype(np.int64)
    for place in range(ID_DIGITS, 0, -1):
        text[:, place] = ord("0") + rest % 10
        rest = rest // 10
    return fixed_width(text)


def knows_ids(letter: str, ids: pa.Array, known: int) -> NDArray[np.bool_]:
    """Whether ids are of the ``known`` first: bool[n]."""
    good = pc.match_substring_regex(ids, rf"^{letter}\d{{{ID_DIGITS}}}$").fill_null(False)
    number = pc.utf8_slice_codeunits(pc.if_else(good, ids, f"{letter}0"), 1).cast(pa.int64())
    return np.asarray(pc.and_(good, pc.less(number, known)).to_numpy(zero_copy_only=False), np.bool_)


def id_rows(letter: str, ids: Sequence[str] | pa.Array | pa.ChunkedArray, known: int) -> NDArray[np.int64]:
    """Rows of such ids: int64[n]. NotFound for an id that is none of the ``known`` first."""
    text = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(list(ids), pa.string())
    good = pc.match_substring_regex(text, rf"^{letter}\d{{{ID_DIGITS}}}$").fill_null(False)
    if not pc.all(good, min_count=0).as_py():
        raise NotFound(
            f"{text.filter(pc.invert(good))[0].as_py()!r} is no id of this world: {letter}00000000…"
        )
    rows = pc.utf8_slice_codeunits(text, 1).cast(pa.int64()).to_numpy(zero_copy_only=False)
    if len(rows) and rows.max() >= known:
        raise NotFound(f"{letter}{rows.max():0{ID_DIGITS}d} does not exist yet: this world has {known}")
    return np.asarray(rows, dtype=np.int64)


def _hex(keys: Keys) -> NDArray[np.uint8]:
    octets = keys.astype(">u8").view(np.uint8).reshape(len(keys), 8)
    return np.stack([_HEX[octets >> 4], _HEX[octets & 15]], axis=2).reshape(len(keys), 16)


def key_ids(letter: str, keys: Keys) -> pa.Array:
    """A letter and 16 hex digits for each key: string[n]."""
    head = np.full((len(keys), 1), ord(letter), dtype=np.uint8)
    return fixed_width(np.concatenate([head, _hex(keys)], axis=1))


def uuids(high: Keys, low: Keys) -> pa.Array:
    """UUIDs of version 8 (RFC 9562: the bits are our own) from two words each: string[n]."""
    version = (high & np.uint64(0xFFFFFFFFFFFF0FFF)) | np.uint64(0x8000)
    variant = (low & np.uint64(0x3FFFFFFFFFFFFFFF)) | np.uint64(0x8000000000000000)
    text = np.full((len(high), 36), ord("-"), dtype=np.uint8)
    text[:, _UUID_PLACES] = np.concatenate([_hex(version), _hex(variant)], axis=1)
    return fixed_width(text)


def named(codes: ArrayLike, names: Sequence[str] | pa.Array) -> pa.Array:
    """Names by code, null where the code is negative: string[n]."""
    codes = np.asarray(codes, dtype=np.int32)
    table = names if isinstance(names, pa.Array) else pa.array(names, pa.string())
    return table.take(pa.array(codes, mask=codes < 0))


def present(values: pa.Array, where: NDArray[np.bool_]) -> pa.Array:
    """Values, null where not present."""
    return pc.if_else(pa.array(where), values, pa.scalar(None, values.type))


def lists(counts: NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    """Lists of given lengths cut from values in order."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)

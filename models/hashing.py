"""Signed feature hashing: words as vectors of a few numbers, without a vocabulary and without fitting.

Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning": a word adds +1 or -1 to one
place, both told by its hash, so that the dot product of two sets of words estimates how many they share. The
hash is the same on every machine and of every day, so a vector means the same in every snapshot.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.video_inputs import words

CATEGORY_WIDTH, CREATOR_WIDTH, TAG_WIDTH = 8, 8, 8
"""Numbers per vector."""


def place_and_sign(word: str, width: int) -> tuple[int, int]:
    """Where a word goes, 0 to width - 1, and what it adds there, 1 or -1."""
    digest = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
    return (digest >> 1) % width, 1 - 2 * (digest & 1)


def hashed_column(column: pa.Array | pa.ChunkedArray, width: int) -> NDArray[np.float32]:
    """One word per row as float32[n, width]: length 1, or zeros where it is null."""
    encoded = _encoded(column)
    known = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
    rows = np.flatnonzero(known >= 0)
    return unit(_sums(rows, known[rows], encoded.dictionary.to_pylist(), len(known), width))


def hashed_tags(column: pa.Array | pa.ChunkedArray, width: int = TAG_WIDTH) -> NDArray[np.float32]:
    """Lists of tags as float32[n, width]: the distinct words of all tags of a row, length 1 or zeros."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    row = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), np.int64)
    encoded = _encoded(pc.fill_null(pc.list_flatten(lists), ""))
    tag = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
    of_tag = [words(text, ()) for text in encoded.dictionary.to_pylist()]
    vocabulary = {word: code for code, word in enumerate(dict.fromkeys(w for found in of_tag for w in found))}
    lengths = np.array([len(found) for found in of_tag], np.int64)
    flat = np.array([vocabulary[word] for found in of_tag for word in found], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    repeats = lengths[tag]
    inside = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    pairs = np.stack([np.repeat(row, repeats), flat[np.repeat(starts[tag], repeats) + inside]])
    pairs = np.unique(pairs, axis=1) if pairs.size else pairs
    return unit(_sums(pairs[0], pairs[1], list(vocabulary), len(lists), width))


def hashed_texts(texts: Sequence[str], width: int = TAG_WIDTH) -> NDArray[np.float32]:
    """Free text, such as queries, in the tags' space: float32[n, width], length 1 or zeros."""
    return hashed_tags(pa.array([[text] for text in texts], pa.list_(pa.string())), width)


def unit(vectors: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float32]:
    """Rows of length 1, float32[n, d]; zeros stay zeros."""
    exact = np.asarray(vectors, np.float64)
    length = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    return np.asarray(exact / np.where(length > 0, length, 1.0), np.float32)


def _encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.cast(pa.string()).dictionary_encode()


def _sums(
    rows: NDArray[np.int64], codes: NDArray[np.int64], vocabulary: Sequence[str], count: int, width: int
) -> NDArray[np.float64]:
    """float64[count, width], what the words ``codes`` add to ``rows``; whole numbers, so in any order."""
    told = np.array([place_and_sign(word, width) for word in vocabulary], np.int64).reshape(-1, 2)
    cell = rows * width + told[codes, 0]
    sums = np.bincount(cell, told[codes, 1].astype(np.float64), count * width)
    return np.asarray(sums, np.float64).reshape(count, width)

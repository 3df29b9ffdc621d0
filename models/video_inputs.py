"""What the video tower reads of a catalogue, as integers that mean the same in every catalogue.

Words, categories and creators are hashed, so that a video uploaded after training has inputs that the tower
knows, without a vocabulary to keep.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.history import SECOND

VISUAL = 32
"""Width of what a thumbnail is turned into; zeros where there is none."""
TOKENS = 16
"""Words of a title and tags that are read, tags first."""
TOKEN_BUCKETS = 1 << 15
CATEGORY_BUCKETS = 1 << 10
CREATOR_BUCKETS = 1 << 14
DURATION_BUCKETS = 16
"""Unknown, then by powers of √2 from 5 s, so that the last is of 9 minutes and longer."""
AGE_BUCKETS = 16
"""Unknown, then by powers of 2 from an hour, so that the last is of 23 months and older."""

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")


@dataclass(frozen=True)
class VideoInputs:
    """Inputs of n videos; 0 is unknown or padding everywhere.

    tokens: int64[n, TOKENS]; category, creator, duration: int64[n]; uploaded_at: int64[n], microseconds;
    visual: float32[n, VISUAL].
    """

    tokens: NDArray[np.int64]
    category: NDArray[np.int64]
    creator: NDArray[np.int64]
    duration: NDArray[np.int64]
    uploaded_at: NDArray[np.int64]
    visual: NDArray[np.float32]

    @classmethod
    def of(cls, catalogue: Catalogue, visual: NDArray[np.float32] | None = None) -> "VideoInputs":
        """Of a catalogue's videos and, where thumbnails are known, what those look like, in row order."""
        if visual is None:
            visual = np.zeros((len(catalogue), VISUAL), np.float32)
        if visual.shape != (len(catalogue), VISUAL):
            raise ValueError(f"visual is {visual.shape}, not ({len(catalogue)}, {VISUAL})")
        titles = catalogue.table["title"].to_pylist()
        tags = catalogue.table["tags"].to_pylist()
        tokens = np.zeros((len(catalogue), TOKENS), np.int64)
        for row, (title, of_video) in enumerate(zip(titles, tags, strict=True)):
            found = words(title or "", of_video or ())[:TOKENS]
            tokens[row, : len(found)] = [bucket(word, TOKEN_BUCKETS) for word in found]
        return cls(
            tokens,
            _hashed(catalogue.category, catalogue.categories, CATEGORY_BUCKETS),
            _hashed(catalogue.creator, catalogue.creators, CREATOR_BUCKETS),
            _by_powers(catalogue.duration_s / 5, 2.0, DURATION_BUCKETS),
            catalogue.uploaded_at,
            visual,
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def age(self, rows: NDArray[np.integer], now: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """int64, age buckets of some videos at times (microseconds); an upload still to come is of age 0."""
        uploaded = self.uploaded_at[rows]
        hours = np.maximum(now - uploaded, 0) / (3600 * SECOND)
        return _by_powers(np.where(uploaded > 0, hours, np.nan), 1.0, AGE_BUCKETS)


def words(title: str, tags: Sequence[str]) -> list[str]:
    """Distinct tags, each whole, then words of the title; of scripts without spaces, pairs of letters."""
    found = [f"#{tag.lower()}" for tag in tags]
    for word in _WORD.findall(title.lower()):
        if _UNSPACED.search(word) and len(word) > 2:
            found += [word[at : at + 2] for at in range(len(word) - 1)]
        else:
            found.append(word)
    return list(dict.fromkeys(found))


def bucket(text: str, buckets: int) -> int:
    """1 to buckets - 1, the same on every machine."""
    return 1 + crc32(text.encode()) % (buckets - 1)


def _hashed(codes: NDArray[np.int32], values: Sequence[str], buckets: int) -> NDArray[np.int64]:
    table = np.array([*(bucket(value, buckets) for value in values), 0], np.int64)
    return np.asarray(table[codes], dtype=np.int64)  # code -1, unknown, is the 0 at the end


def _by_powers(ratio: NDArray[np.floating], steps: float, buckets: int) -> NDArray[np.int64]:
    """Bucket 1 below 1, then one for each 2^(1/steps); 0 where nan."""
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.floor(np.log2(np.maximum(ratio, 0)) * steps) + 2
    level = np.clip(level, 1, buckets - 1)
    return np.asarray(np.nan_to_num(level, nan=0), dtype=np.int64)

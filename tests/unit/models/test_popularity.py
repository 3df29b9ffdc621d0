"""Decayed counts, by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.popularity import Popularity
from upnext.errors import CorruptData, MissingData

HOUR = 3_600_000_000


def popularity() -> Popularity:
    return Popularity.fit(
        video=np.array([0, 0, 1, 2, 3], np.int32),
        ts=np.array([10, 8, 10, 6, 11]) * HOUR,
        weight=np.array([1.0, 1.0, 3.0, -1.0, 9.0], np.float32),
        region=pa.array(["se", "de", None, "se", "se"]),
        n_videos=4,
        as_of=10 * HOUR,
        half_life_h=2.0,
    )


def test_counts_by_hand() -> None:
    popular = popularity()
    assert popular.regions == ("de", "se")
    assert popular.counts.tolist() == [[1.5, 3, 0, 0], [0.5, 0, 0, 0], [1, 0, 0, 0]]
    assert popular.counts.dtype == np.float32


def test_regions_and_top() -> None:
    popular = popularity()
    assert popular.scores("de").tolist() == [0.5, 0, 0, 0]
    assert popular.scores("nowhere").tolist() == popular.scores().tolist() == [1.5, 3, 0, 0]
    assert popular.top(5).tolist() == [1, 0]
    assert popular.top(1, "se").tolist() == [0]
    assert popular.top(5, allowed=np.array([True, False, True, True])).tolist() == [0]


def test_nobody_engaged() -> None:
    empty = np.array([], np.int64)
    popular = Popularity.fit(
        empty.astype(np.int32),
        empty,
        empty.astype(np.float32),
        pa.array([], pa.string()),
        n_videos=3,
        as_of=0,
    )
    assert popular.counts.shape == (1, 3)
    assert popular.top(3).tolist() == []


def test_save_and_load(tmp_path: Path) -> None:
    saved = popularity()
    saved.save(tmp_path / "popularity.npz")
    loaded = Popularity.load(tmp_path / "popularity.npz")
    np.testing.assert_array_equal(loaded.counts, saved.counts)
    assert (loaded.regions, loaded.as_of, loaded.half_life_h) == (saved.regions, saved.as_of, 2.0)
    with pytest.raises(MissingData):
        Popularity.load(tmp_path / "none.npz")
    whole = (tmp_path / "popularity.npz").read_bytes()
    changed = bytearray(whole)
    changed[whole.index(b"NUMPY") + 100] ^= 1  # the zip's checksum finds it
    for broken in (b"nothing", whole[: len(whole) // 2], bytes(changed)):
        (tmp_path / "broken.npz").write_bytes(broken)
        with pytest.raises(CorruptData, match=r"broken\.npz can't be read"):
            Popularity.load(tmp_path / "broken.npz")

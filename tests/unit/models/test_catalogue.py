"""Row order, codes and look-ups."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.catalogue import Catalogue
from upnext.contracts import VIDEOS
from upnext.errors import CorruptData, MissingData

VIDEO_ROWS = [
    {"video_id": "late", "uploaded_at": datetime(2026, 2, 1, tzinfo=UTC), "category": "b", "creator_id": "y"},
    {"video_id": "b", "uploaded_at": datetime(2026, 1, 1, tzinfo=UTC), "duration_ms": 1500, "category": "a"},
    {"video_id": "a", "uploaded_at": datetime(2026, 1, 1, tzinfo=UTC), "status": "blocked"},
    {"video_id": "undated", "duration_ms": 0, "creator_id": "x", "status": "active"},
]


def catalogue() -> Catalogue:
    return Catalogue.of(pa.Table.from_pylist(VIDEO_ROWS, VIDEOS))


def test_columns_by_hand() -> None:
    videos = catalogue()
    assert videos.ids.tolist() == ["undated", "a", "b", "late"]
    assert videos.creators == ("x", "y")
    assert videos.creator.tolist() == [0, -1, -1, 1]
    assert videos.category.tolist() == [-1, -1, 0, 1]
    np.testing.assert_array_equal(videos.duration_s, np.array([np.nan, np.nan, 1.5, np.nan], np.float32))
    assert videos.uploaded_at[:2].tolist() == [0, 1_767_225_600_000_000]
    assert videos.active.tolist() == [True, False, True, True]


def test_rows_of_ids() -> None:
    videos, asked = catalogue(), ["late", "nobody", "a"]
    assert videos.rows(asked).tolist() == [3, -1, 1]
    assert videos.rows(pa.array(asked)).tolist() == [3, -1, 1]
    assert videos.rows(pa.chunked_array([asked, [None]], pa.string())).tolist() == [3, -1, 1, -1]
    assert videos.rows([]).dtype == np.int32


def test_order_does_not_depend_on_the_input(tmp_path: Path) -> None:
    videos = catalogue()
    turned = Catalogue.of(pa.Table.from_pylist(VIDEO_ROWS[::-1], VIDEOS))
    assert turned.table.equals(videos.table)
    videos.save(tmp_path / "catalogue.parquet")
    assert Catalogue.load(tmp_path / "catalogue.parquet").table.equals(videos.table)


def test_empty_catalogue() -> None:
    videos = Catalogue.of(VIDEOS.empty_table())
    assert len(videos) == 0
    assert videos.rows(["a"]).tolist() == [-1]
    assert videos.creator.tolist() == []


def test_wrong_input_is_named(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(VIDEO_ROWS, VIDEOS)
    with pytest.raises(MissingData, match="category"):
        Catalogue.of(table.drop_columns("category"))
    with pytest.raises(CorruptData, match="1 video_ids come twice"):
        Catalogue.of(pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(MissingData, match="no catalogue"):
        Catalogue.load(tmp_path / "none")
    (tmp_path / "broken").write_bytes(b"PAR1")
    with pytest.raises(CorruptData, match="broken"):
        Catalogue.load(tmp_path / "broken")

"""Rows by catalogue row are those of the snapshot, and a generation is there whole or not at all."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from feature_repo.rows import CATALOGUES, RowSnapshots, keep_catalogue, write_rows
from models.layout import FeatureLayout
from upnext.errors import CorruptData

LAYOUTS = {
    "float32": FeatureLayout.of(["a", "b", "c"]),
    "float16": FeatureLayout.of(["a", "b", "c"], "float16"),
    "both": FeatureLayout.typed([("a", "float16"), ("b", "float32"), ("c", "float16")]),
}
AT = datetime(2026, 6, 1, tzinfo=UTC)
CATALOGUE = ["v3", "v1", "new", "v2"]
IDS = ["v1", "v2", "v3", "gone"]
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
DEFAULTS = np.array([-1, -2, -3], np.float32)


def write(root: Path, layout: FeatureLayout, hours: int = 0, plus: float = 0.0) -> int:
    return write_rows(
        root, "view", layout, AT + timedelta(hours=hours), IDS, ROWS + np.float32(plus), DEFAULTS
    )


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_are_in_the_catalogues_order_and_new_videos_have_defaults(
    tmp_path: Path, layout: FeatureLayout
) -> None:
    digest = keep_catalogue(tmp_path, CATALOGUE)
    assert write(tmp_path, layout) == 1
    rows = RowSnapshots(tmp_path, "view", layout, digest).look()
    assert rows is not None and len(rows) == 4
    got = rows.gather(np.array([3, 0, 2, 0], np.int32))
    np.testing.assert_array_equal(got, [ROWS[1], ROWS[2], DEFAULTS, ROWS[2]])
    assert rows.gather(np.empty(0, np.int32)).shape == (0, 3)


def test_a_newer_generation_is_taken_up_and_two_are_kept(tmp_path: Path) -> None:
    layout = LAYOUTS["float16"]
    snapshots = RowSnapshots(tmp_path, "view", layout, keep_catalogue(tmp_path, CATALOGUE))
    assert snapshots.look() is None
    write(tmp_path, layout)
    first = snapshots.look()
    assert snapshots.look() is first and first is not None
    for hours in (1, 2):
        write(tmp_path, layout, hours, plus=hours)
    newest = snapshots.look()
    assert newest is not None
    assert newest.gather(np.array([1], np.int32)).tolist() == [[2, 3, 4]]
    assert first.gather(np.array([1], np.int32)).tolist() == [[0, 1, 2]]  # removed, and still mapped
    assert len(list(tmp_path.glob("rows/view@*/*.rows"))) == 2
    assert not list(tmp_path.glob("rows/view@*/.*"))


def test_what_is_as_new_is_not_written_again(tmp_path: Path) -> None:
    layout = LAYOUTS["float32"]
    keep_catalogue(tmp_path, CATALOGUE)
    assert [write(tmp_path, layout, hours) for hours in (1, 1, 0)] == [1, 0, 0]
    keep_catalogue(tmp_path, ["v1"])
    assert write(tmp_path, layout, 1) == 1


def test_catalogues_and_layouts_are_apart(tmp_path: Path) -> None:
    digests = [keep_catalogue(tmp_path, CATALOGUE), keep_catalogue(tmp_path, CATALOGUE[::-1])]
    write(tmp_path, LAYOUTS["float32"])
    firsts = []
    for digest in digests:
        rows = RowSnapshots(tmp_path, "view", LAYOUTS["float32"], digest).look()
        assert rows is not None
        firsts.append(rows.gather(np.array([0], np.int32))[0].tolist())
    assert firsts == [ROWS[2].tolist(), ROWS[1].tolist()]
    assert RowSnapshots(tmp_path, "view", LAYOUTS["float16"], digests[0]).look() is None


def test_catalogues_of_long_ago_are_let_go_with_their_rows(tmp_path: Path) -> None:
    for number in range(CATALOGUES + 2):
        keep_catalogue(tmp_path, [f"v{number}"])
        write(tmp_path, LAYOUTS["float32"], hours=number)
    assert len(list(tmp_path.glob("rows/catalogues/*.parquet"))) == CATALOGUES
    assert len(list(tmp_path.glob("rows/view@*/*.json"))) == CATALOGUES


@pytest.mark.parametrize("harm", ["cut", "pointer"])
def test_a_generation_that_cannot_be_read_leaves_the_one_before_in_use(tmp_path: Path, harm: str) -> None:
    layout = LAYOUTS["float32"]
    snapshots = RowSnapshots(tmp_path, "view", layout, keep_catalogue(tmp_path, CATALOGUE))
    write(tmp_path, layout)
    before = snapshots.look()
    write(tmp_path, layout, hours=1, plus=9)
    (pointer,) = tmp_path.glob("rows/view@*/*.json")
    if harm == "cut":
        newest = max(tmp_path.glob("rows/view@*/*.rows"))
        newest.write_bytes(newest.read_bytes()[:-1])
    else:
        pointer.write_text("{")
    with pytest.raises(CorruptData, match="materialise again" if harm == "cut" else "does not say where"):
        snapshots.look()
    assert snapshots.look() is before is snapshots.newest  # not looked at again until it is replaced


def test_a_video_that_is_no_row_is_refused(tmp_path: Path) -> None:
    digest = keep_catalogue(tmp_path, CATALOGUE)
    write(tmp_path, LAYOUTS["float32"])
    rows = RowSnapshots(tmp_path, "view", LAYOUTS["float32"], digest).look()
    assert rows is not None
    with pytest.raises(IndexError):
        rows.gather(np.array([4], np.int32))

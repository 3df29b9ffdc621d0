from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.features import build_features, snapshot_times
from components.split import split_times, time_span
from feature_repo.layout import layouts
from feature_repo.offline import SNAPSHOT, snapshot, snapshots
from feature_repo.specs import CREATOR, USER, VIDEO, VIEWS
from feature_repo.vectors import VISUAL_TABLE
from tests.support.small_log import DAYS, END, START, small_log
from upnext.errors import EmptyData
from upnext.stores import Stores

SINCE = END - timedelta(days=2)
HOUR = timedelta(hours=1)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with small_log().write(tmp_path) as opened:
        yield opened


def test_only_new_snapshots_are_taken(stores: Stores) -> None:
    lake = stores.lake
    first = build_features(lake, SINCE, END - HOUR, [END - 30 * HOUR, END + HOUR], threads=1)
    assert first["snapshots"] == 4  # two midnights, one that was asked for, and the end
    assert snapshots(lake, USER.name) == [SINCE, END - 30 * HOUR, END - 24 * HOUR, END - HOUR]
    versions = lake.version(USER.table), lake.version(VIDEO.table)
    assert build_features(lake, SINCE, END - HOUR, threads=1)["snapshots"] == 0
    assert (lake.version(USER.table), lake.version(VIDEO.table)) == versions
    told: list[tuple[int, int]] = []
    report = build_features(lake, SINCE, END, threads=1, progress=lambda *done: told.append(done))
    assert report["snapshots"] == 1 and told == [(0, 1), (1, 1)]
    assert report["video_rows"] == lake.read("videos").num_rows


def test_a_snapshot_is_the_same_whichever_run_takes_it(stores: Stores, tmp_path: Path) -> None:
    build_features(stores.lake, SINCE, END, threads=1)
    with small_log().write(tmp_path / "again") as other:
        build_features(other.lake, SINCE, SINCE + HOUR, threads=2)
        build_features(other.lake, END, END, threads=2)
        for view in VIEWS:
            for at in (SINCE, END):
                ids, rows = snapshot(stores.lake, view, at)
                more_ids, more_rows = snapshot(other.lake, view, at)
                assert ids == more_ids and rows.tobytes() == more_rows.tobytes()


def test_a_killed_run_is_taken_up_again(stores: Stores) -> None:
    build_features(stores.lake, END, END, threads=1)
    whole = snapshot(stores.lake, USER.name, END)
    stores.lake.delete(VIDEO.table, "video_id is not null")  # as if it had not come to the second table
    assert build_features(stores.lake, END, END, threads=1)["snapshots"] == 1
    ids, rows = snapshot(stores.lake, USER.name, END)
    assert ids == whole[0] and rows.tobytes() == whole[1].tobytes()
    assert len(snapshot(stores.lake, VIDEO.name, END)[0]) == 25


def test_no_outcomes_yet(tmp_path: Path) -> None:
    with small_log(rows=0).write(tmp_path) as stores:
        report = build_features(stores.lake, END, END, threads=1)
        assert report["user_rows"] == 11
        assert np.isfinite(snapshot(stores.lake, USER.name, END)[1]).all()
        with pytest.raises(EmptyData, match="no outcome before 2026-03-14"):
            time_span(stores.lake, END)


def test_snapshot_times() -> None:
    start = datetime(2026, 3, 1, 6, tzinfo=UTC)
    times = snapshot_times(start, start + timedelta(hours=40), every=timedelta(hours=12))
    assert [time - start for time in times] == [hours * HOUR for hours in (0, 6, 18, 30, 40)]
    assert snapshot_times(start, start) == [start]


def test_the_split_cuts_the_last_tenth_and_at_least_a_day() -> None:
    def days(split_of: timedelta) -> list[float]:
        split = split_times(START, START + split_of)
        zero = int(START.timestamp())
        cuts = (split.history_end, split.valid_start, split.holdout_start, split.until)
        return [round((cut / 1e6 - zero) / 86_400, 4) for cut in cuts]

    assert days(timedelta(days=40)) == [20.0, 34.0, 36.0, 40.0]
    assert days(timedelta(days=5)) == [1.75, 3.5, 4.0, 5.0]
    assert days(timedelta(days=1)) == [0.275, 0.625, 0.75, 1.0]


def test_the_span_ends_where_the_interval_does(stores: Stores) -> None:
    first, until = time_span(stores.lake, END)
    assert START <= first < START + timedelta(hours=12)
    assert until == END and DAYS == 12


def test_values_are_those_that_their_dtype_holds(stores: Stores) -> None:
    build_features(stores.lake, END, END, threads=1)
    for view in VIEWS.values():
        rows = snapshot(stores.lake, view.name, END)[1]
        packed = layouts()[view.name]
        np.testing.assert_array_equal(packed.unpack_many(packed.pack(rows)).rows, rows)


def test_a_table_of_other_features_is_made_anew(stores: Stores) -> None:
    lake = stores.lake
    build_features(lake, SINCE, END, threads=1)
    fewer = lake.read(VIDEO.table).drop_columns([VIDEO.names[0]])
    lake.overwrite(VIDEO.table, fewer, [SNAPSHOT])
    assert build_features(lake, END, END, threads=1)["snapshots"] == 1
    assert snapshots(lake, VIDEO.name) == [END] and len(snapshots(lake, USER.name)) == 3
    assert np.isfinite(snapshot(lake, VIDEO.name, END)[1]).all()


def test_a_candidate_carries_its_creator_and_its_looks(stores: Stores) -> None:
    lake = stores.lake
    looks = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
    visual = pa.array(looks.tolist(), pa.list_(pa.float32(), 32))
    lake.overwrite(VISUAL_TABLE, pa.table({"video_id": ["v1", "v7"], "visual": visual}))
    build_features(lake, END, END, threads=1)
    ids, videos = snapshot(lake, VIDEO.name, END)
    creators, of_creators = snapshot(lake, CREATOR.name, END)
    copied = [VIDEO.names.index(f"creator_{name}") for name in CREATOR.names]
    seen = [VIDEO.names.index(f"visual_{place}") for place in range(32)]
    for row in lake.read("videos").to_pylist():
        mine = videos[ids.index(row["video_id"])]
        if row["creator_id"]:
            np.testing.assert_array_equal(mine[copied], of_creators[creators.index(row["creator_id"])])
        known = {"v1": looks[0], "v7": looks[1]}.get(row["video_id"], np.zeros(32, np.float32))
        np.testing.assert_allclose(mine[seen], known / max(np.linalg.norm(known), 1e-9), atol=1e-3)

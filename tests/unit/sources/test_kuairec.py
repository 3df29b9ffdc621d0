"""KuaiRec: the official layout, and the pairs without times."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from upnext.contracts import QUARANTINE
from upnext.errors import MissingData
from upnext.sources import open_source
from upnext.sources.checks import split
from upnext.sources.kuairec import TRAIN_DAYS, VALID_DAYS

MATRIX = """user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio
0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.273
0,9598,0,10984,2020-07-05 00:13:41.297,20200705,1593879221.297,0.0
1,3649,100,10867,,,,0.01
"""
LEVELS = ",".join(f"{level}_level_category_name" for level in ("first", "second", "third"))
CAPTIONS = f"""video_id,caption,topic_tag,{LEVELS}
0,精神小伙路难走 ,[],颜值,颜值随拍,UNKNOWN
1,"two
lines","[五爱市场, 搞笑]",UNKNOWN,搞笑互动,街拍
"""
CATEGORIES = 'video_id,feat\n0,[8]\n1,"[27, 9]"\n2,[5]\n'
DAILY = """video_id,date,author_id,upload_dt,video_duration
0,20200705,3309,2020-03-30,5966
0,20200706,3309,2020-03-30,5966
1,20200705,12,2020-04-01,
"""
PAIRS = "user_id,video_id,n,split\n0,67,1,train\n0,133,2,train\n5,67,1,valid\n5,68,many,valid\n"


@pytest.fixture
def official(tmp_path: Path) -> Path:
    (tmp_path / "big_matrix.csv").write_text(MATRIX)
    (tmp_path / "small_matrix.csv").write_text("user_id,video_id\n99,99\n")
    (tmp_path / "kuairec_caption_category.csv").write_text(CAPTIONS)
    (tmp_path / "item_categories.csv.gz").write_bytes(gzip.compress(CATEGORIES.encode()))
    (tmp_path / "item_daily_features.csv").write_text(DAILY)
    (tmp_path / "user_features.csv").write_text("user_id,user_active_degree\n0,high_active\n")
    return tmp_path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "big_matrix_positives.csv.gz").write_bytes(gzip.compress(PAIRS.encode()))
    return tmp_path


def read(folder: Path) -> tuple[list[dict], list[dict]]:
    tables = list(open_source(f"kuairec:{folder}").events())
    good = pa.concat_tables([table for table in tables if not table.schema.equals(QUARANTINE)])
    refused = [row for table in tables if table.schema.equals(QUARANTINE) for row in table.to_pylist()]
    return split(good, "events", "test").good.to_pylist(), refused


def test_official_rows_are_impressions_and_watches(official: Path) -> None:
    events, refused = read(official)

    assert open_source(f"kuairec:{official}").timed
    assert [(e["user_id"], e["video_id"], e["event_type"], e["watch_duration_ms"]) for e in events] == [
        ("0", "3649", "impression", None),
        ("0", "3649", "watch", 13838),
        ("0", "9598", "impression", None),
    ]
    assert events[0]["timestamp"] == datetime(2020, 7, 4, 16, 8, 23, 438000, tzinfo=UTC)
    assert events[0]["request_id"] == events[1]["request_id"] != events[2]["request_id"]
    assert [row["reason"] for row in refused] == ["timestamp is missing"]


def test_videos_join_captions_categories_and_daily_features(official: Path) -> None:
    tables = pa.concat_tables(open_source(f"kuairec:{official}").videos())
    videos = {video["video_id"]: video for video in split(tables, "videos", "test").good.to_pylist()}

    assert videos["0"]["title"] == "精神小伙路难走"
    assert (videos["0"]["category"], videos["0"]["duration_ms"]) == ("颜值", 5966)
    assert (videos["0"]["creator_id"], videos["0"]["uploaded_at"].day) == ("3309", 30)
    assert videos["0"]["tags"] == ["颜值随拍"]  # of a lower level, and UNKNOWN is no tag
    assert videos["1"]["tags"] == ["五爱市场", "搞笑", "搞笑互动", "街拍"]
    assert (videos["1"]["category"], videos["1"]["duration_ms"]) == ("27", None)
    assert (videos["2"]["category"], videos["2"]["title"], videos["2"]["tags"]) == ("5", "", [])


def test_each_pair_is_n_watches_of_unknown_time_split_by_their_day(pairs: Path) -> None:
    events, refused = read(pairs)
    start = datetime(2020, 7, 5, tzinfo=UTC)
    days = [(event["timestamp"] - start) / timedelta(days=1) for event in events]

    assert not open_source(f"kuairec:{pairs}").timed
    assert [(e["user_id"], e["video_id"], e["event_type"]) for e in events] == [
        ("0", "67", "watch"),
        ("0", "133", "watch"),
        ("0", "133", "watch"),
        ("5", "67", "watch"),
    ]
    assert all(event["watch_duration_ms"] is None for event in events)
    assert all(0 <= day < TRAIN_DAYS for day in days[:3])
    assert TRAIN_DAYS <= days[3] < TRAIN_DAYS + VALID_DAYS
    assert len({event["event_id"] for event in events}) == 4
    assert [row["reason"] for row in refused] == ["n is not a whole number"]
    assert read(pairs)[0] == events


def test_without_side_files_there_are_still_events(pairs: Path) -> None:
    source = open_source(f"kuairec:{pairs}")
    assert sum(len(table) for table in source.videos()) == 0
    assert list(source.users()) == []


def test_a_folder_without_a_matrix_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"big_matrix\.csv or big_matrix_positives\.csv.*holds nothing"):
        open_source(f"kuairec:{tmp_path}")

"""KuaiRand's official layout, by a log small enough to work out by hand."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upnext.contracts import QUARANTINE
from upnext.errors import CorruptData, MissingData
from upnext.sources import open_source
from upnext.sources.checks import split

LOG = """user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,\
long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab
7,70,20220425,0,1650812741436,1,1,0,0,0,0,1,61802,49866,0,0,0,0,1
8,71,20220425,0,1650812741437,0,0,0,0,1,1,0,0,11933,0,0,0,0,4
7,70,20220425,0,1650812741436,1,1,0,0,0,0,1,61802,49866,0,0,0,0,1
9,71,20220425,0,soon,0,0,0,0,0,0,0,0,11933,0,0,0,0,1
9,71,20220425,0
"""
VIDEOS = """video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,\
server_height,music_id,music_type,tag
70,7349781,NORMAL,2022-04-10,LongImport,0.0,49866.0,720.0,1280.0,9155697141,9.0,"39,68"
71,2103883,NORMAL,2022-04-11,Kmovie,0.0,0.0,720.0,1280.0,6355810746,,
"""
USERS = """user_id,user_active_degree,is_live_streamer,follow_user_num_range
7,full_active,-124,"[10,100)"
8,UNKNOWN,1,
"""


def write(path: Path, text: str, gzipped: bool) -> None:
    if gzipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


@pytest.fixture(params=[False, True], ids=["plain", "gzipped"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write(tmp_path / "log_standard_4_22_to_5_08_pure.csv", LOG, request.param)
    write(tmp_path / "video_features_basic_pure.csv", VIDEOS, request.param)
    write(tmp_path / "video_features_statistic_pure.csv", "video_id,counts\n70,1\n", request.param)
    write(tmp_path / "user_features_pure.csv", USERS, request.param)
    return tmp_path


def test_each_row_becomes_an_impression_and_what_came_of_it(folder: Path) -> None:
    source = open_source(f"kuairand:{folder}")
    tables = list(source.events())
    events = split(pa.concat_tables([t for t in tables if not t.schema.equals(QUARANTINE)]), "events", "test")

    assert (source.dataset, source.timed) == ("kuairand_pure", True)
    assert not len(events.refused)
    rows = events.good.to_pylist()
    assert [(row["user_id"], row["video_id"], row["event_type"]) for row in rows] == [
        *[("7", "70", kind) for kind in ("impression", "click", "watch", "like")],
        *[("8", "71", kind) for kind in ("impression", "share", "not_interested")],
        *[("7", "70", kind) for kind in ("impression", "click", "watch", "like")],
    ]
    assert [row["watch_duration_ms"] for row in rows[:4]] == [None, None, 61802, None]
    assert rows[0]["timestamp"] == datetime(2022, 4, 24, 15, 5, 41, 436000, tzinfo=UTC)
    assert [rows[0]["surface"], rows[4]["surface"]] == ["tab1", "tab4"]


def test_a_repeated_row_has_the_same_ids_and_every_other_row_its_own_request(folder: Path) -> None:
    tables = open_source(f"kuairand:{folder}").events()
    rows = pa.concat_tables([t for t in tables if not t.schema.equals(QUARANTINE)]).to_pylist()

    ids = [row["event_id"] for row in rows]
    assert ids[:4] == ids[7:]
    assert len(set(ids)) == 7
    assert len({row["request_id"] for row in rows[:4]}) == 1
    assert rows[0]["request_id"] != rows[4]["request_id"]


def test_bad_rows_are_quarantined_with_their_reason(folder: Path) -> None:
    tables = open_source(f"kuairand:{folder}").events()
    refused = pa.concat_tables([t for t in tables if t.schema.equals(QUARANTINE)]).to_pylist()

    assert sorted(row["reason"] for row in refused) == [
        "4 cells where 19 belong",
        "time_ms is not a whole number",
    ]
    assert all(row["table"] == "events" and "log_standard" in row["source"] for row in refused)
    assert any('"time_ms":"soon"' in row["row"] for row in refused)


def test_videos_take_author_tags_and_upload_day_and_no_duration_of_zero(folder: Path) -> None:
    source = open_source(f"kuairand:{folder}")
    videos = split(pa.concat_tables(source.videos()), "videos", "test").good.to_pylist()

    assert [(v["video_id"], v["creator_id"], v["tags"], v["category"], v["duration_ms"]) for v in videos] == [
        ("70", "7349781", ["39", "68"], "39", 49866),
        ("71", "2103883", [], None, None),
    ]
    assert videos[0]["uploaded_at"] == datetime(2022, 4, 10, tzinfo=UTC)


def test_user_features_become_segments_without_the_unknown_ones(folder: Path) -> None:
    source = open_source(f"kuairand:{folder}")
    users = split(pa.concat_tables(source.users()), "users", "test").good.to_pylist()

    assert users[0]["segments"] == ["user_active_degree=full_active", "follow_user_num_range=[10,100)"]
    assert users[1]["segments"] == ["is_live_streamer=1"]
    assert users[0]["region"] is None


def test_sequences_are_laid_out_in_order_up_to_the_time_of_the_last(folder: Path) -> None:
    last = int(datetime(2022, 4, 24, 12, tzinfo=UTC).timestamp() * 1000)
    sequences = {
        "user_id": [7, 8],
        "last_time_ms": [last, last - 7 * 86_400_000],
        "watch_seq": [[70, 71], [71]],
        "like_seq": [[71], []],
        "long_watch_seq": [[70], []],
    }
    pq.write_table(pa.table(sequences), folder / "user_sequences_0408_0424.parquet")

    first = next(iter(open_source(f"kuairand:{folder}").events()))
    events = split(first, "events", "test").good.to_pylist()

    day = {row["timestamp"].day for row in events if row["user_id"] == "8"}
    assert [(row["user_id"], row["video_id"], row["event_type"]) for row in events] == [
        ("7", "70", "watch"),
        ("7", "71", "click"),
        ("8", "71", "click"),
        ("7", "71", "like"),
    ]
    assert events[0]["timestamp"] == datetime(2022, 4, 17, 12, tzinfo=UTC)
    assert events[1]["timestamp"] == events[3]["timestamp"] == datetime(2022, 4, 24, 12, tzinfo=UTC)
    assert day == {17}
    assert all(row["watch_duration_ms"] is None for row in events)


def test_a_missing_log_or_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(MissingData, match=r"no log_\*\.csv.*readme\.txt"):
        open_source(f"kuairand:{tmp_path}")

    (tmp_path / "log_random_pure.csv").write_text("user_id,video_id,time_ms\n1,2,3\n")
    with pytest.raises(MissingData, match=r"log_random_pure\.csv has no column is_click.*user_id, video_id"):
        list(open_source(f"kuairand:{tmp_path}").events())


def test_a_truncated_gzip_file_is_corrupt(tmp_path: Path) -> None:
    whole = gzip.compress((LOG + LOG.splitlines()[1] + "\n").encode())
    (tmp_path / "log_standard_pure.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptData, match=r"log_standard_pure\.csv\.gz cannot be read"):
        list(open_source(f"kuairand:{tmp_path}").events())

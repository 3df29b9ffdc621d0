"""A company's own files: every format reads the same, and every fault is named."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upnext.contracts import QUARANTINE
from upnext.errors import CorruptData, EmptyData, MissingData
from upnext.sources import open_source
from upnext.sources.checks import split

ROWS = [
    {
        "user_id": "u1",
        "event_type": "impression",
        "video_id": "v1",
        "timestamp": "2026-01-01T10:00:00Z",
        "position": 3,
    },
    {
        "user_id": "u1",
        "event_type": "watch",
        "video_id": "v1",
        "timestamp": "2026-01-01T11:00:05+01:00",
        "watch_duration_ms": 5000,
    },
    {
        "user_id": "u2",
        "event_type": "search",
        "timestamp": "2026-01-01 10:00:06",
        "query": 'cats, "big" ones',
    },
    {"user_id": "u2", "event_type": "click", "video_id": "v2", "timestamp": "1767261607000"},
]
COLUMNS = ["user_id", "event_type", "video_id", "timestamp", "watch_duration_ms", "query", "position"]


def csv(path: Path) -> None:
    def cell(value: object) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if "," in text else text

    lines = [COLUMNS, *[[cell(row.get(column)) for column in COLUMNS] for row in ROWS]]
    path.write_text("".join(",".join(line) + "\n" for line in lines))


def csv_gz(path: Path) -> None:
    csv(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))


def parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(COLUMNS) | row for row in ROWS]), path)


WRITERS = {".csv": csv, ".csv.gz": csv_gz, ".jsonl": jsonl, ".parquet": parquet}


def read(folder: Path, name: str = "events") -> list[dict]:
    tables = getattr(open_source(f"files:{folder}"), name)()
    checked = [split(table, name, "test") for table in tables]
    assert not sum(len(part.refused) for part in checked)
    return [row for part in checked for row in part.good.to_pylist()]


@pytest.mark.parametrize("tail", WRITERS)
def test_every_format_reads_the_same(tmp_path: Path, tail: str) -> None:
    WRITERS[tail](tmp_path / f"events{tail}")
    events = read(tmp_path)

    assert [event["user_id"] for event in events] == ["u1", "u1", "u2", "u2"]
    assert [event["timestamp"] for event in events] == [
        datetime(2026, 1, 1, 10, 0, 0, tzinfo=UTC),
        datetime(2026, 1, 1, 10, 0, 5, tzinfo=UTC),
        datetime(2026, 1, 1, 10, 0, 6, tzinfo=UTC),
        datetime(2026, 1, 1, 10, 0, 7, tzinfo=UTC),
    ]
    assert [event["watch_duration_ms"] for event in events] == [None, 5000, None, None]
    assert (events[0]["position"], events[2]["query"], events[2]["video_id"]) == (3, 'cats, "big" ones', None)
    assert len({event["event_id"] for event in events}) == 4
    assert events == read(tmp_path)


def test_ids_do_not_depend_on_the_format(tmp_path: Path) -> None:
    ids = set()
    for tail, write in WRITERS.items():
        folder = tmp_path / tail[1:]
        folder.mkdir()
        write(folder / f"events{tail}")
        ids.add(tuple(event["event_id"] for event in read(folder)))
    assert len(ids) == 1


def test_several_files_and_folders_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    jsonl(tmp_path / "events-2026-01.jsonl")
    csv(tmp_path / "events-2026-02.csv")
    (tmp_path / "events").mkdir()
    parquet(tmp_path / "events" / "part-0.parquet")
    (tmp_path / "eventually.csv").write_text("not ours\n")
    assert len(read(tmp_path)) == 12


@pytest.mark.parametrize("text", ["cats|dogs", '["cats", "dogs"]'])
def test_lists_are_json_or_parted_by_bars(tmp_path: Path, text: str) -> None:
    csv(tmp_path / "events.csv")
    quoted = text.replace('"', '""')
    header = "video_id,title,tags,duration_ms,age_restricted\n"
    (tmp_path / "videos.csv").write_text(f'{header}v1,A,"{quoted}",1000.0,true\nv2,,,,\n')
    first, second = read(tmp_path, "videos")
    assert (first["tags"], first["duration_ms"], first["age_restricted"]) == (["cats", "dogs"], 1000, True)
    assert (second["tags"], second["title"], second["status"]) == ([], "", "active")


def test_videos_and_users_are_optional(tmp_path: Path) -> None:
    csv(tmp_path / "events.csv")
    assert read(tmp_path, "videos") == read(tmp_path, "users") == []


def test_lists_in_json_lines_are_lists(tmp_path: Path) -> None:
    csv(tmp_path / "events.csv")
    (tmp_path / "users.jsonl").write_text(
        '{"user_id": 7, "topics": ["cats", "dogs"], "created_at": "2026-01-01"}\n'
    )
    (user,) = read(tmp_path, "users")
    assert (user["user_id"], user["topics"], user["created_at"].year) == ("7", ["cats", "dogs"], 2026)


def test_a_line_that_is_no_object_is_quarantined(tmp_path: Path) -> None:
    jsonl(tmp_path / "events.jsonl")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"user_id": "u3", \n[1, 2]\n')
    tables = list(open_source(f"files:{tmp_path}").events())
    refused = [row for table in tables if table.schema.equals(QUARANTINE) for row in table.to_pylist()]
    assert [row["reason"] for row in refused] == ["the line is not a JSON object"] * 2
    assert sum(len(table) for table in tables) == 6


def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"files:.*nowhere names no folder"):
        open_source(f"files:{tmp_path / 'nowhere'}")
    (tmp_path / "clicks.csv").write_text("a\n")
    with pytest.raises(
        MissingData, match=r"no events: expected one of events\.parquet.*it holds clicks\.csv"
    ):
        open_source(f"files:{tmp_path}")


@pytest.mark.parametrize("tail", [".jsonl", ".parquet", ".csv"])
def test_a_missing_column_is_named_with_file_and_columns(tmp_path: Path, tail: str) -> None:
    path = tmp_path / f"events{tail}"
    rows = [{key: value for key, value in row.items() if key != "timestamp"} for row in ROWS]
    columns = [column for column in COLUMNS if column != "timestamp"]
    if tail == ".csv":
        path.write_text(",".join(columns) + "\nu1,click,v1,,,\n")
    elif tail == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist([dict.fromkeys(columns) | row for row in rows]), path)
    with pytest.raises(MissingData, match=rf"events\{tail} has no column timestamp.*user_id"):
        list(open_source(f"files:{tmp_path}").events())


def test_a_truncated_parquet_file_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptData, match=r"events\.parquet cannot be read"):
        list(open_source(f"files:{tmp_path}").events())


@pytest.mark.parametrize("text", [",".join(COLUMNS) + "\n", ""])
def test_an_empty_log_is_empty_data(tmp_path: Path, text: str) -> None:
    (tmp_path / "events.csv").write_text(text)
    with pytest.raises(EmptyData, match=r"events\.csv"):
        list(open_source(f"files:{tmp_path}").events())

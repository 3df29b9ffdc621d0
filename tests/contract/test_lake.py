"""What every lake must do."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from upnext.contracts import EVENTS, QUARANTINE, USERS, VIDEOS
from upnext.errors import ConfigError, CorruptData, MissingData, StoreReadOnly
from upnext.ports import Lake

PORT = "lake"


def rows(*keys: str, date: str = "2026-11-01", n: int = 0) -> pa.Table:
    columns = [list(keys), [n] * len(keys), [date] * len(keys)]
    return pa.table(columns, pa.schema([("key", pa.string()), ("n", pa.int32()), ("date", pa.string())]))


def content(lake: Lake, table: str = "t", **options: Any) -> list[tuple[Any, ...]]:
    found = lake.read(table, ["key", "n", "date"], **options)
    return sorted(tuple(row.values()) for row in found.to_pylist())


@pytest.fixture
def lake(site: Any) -> Lake:
    return site.open()


SAMPLES = {"string": "ключ-🎬", "bool": True, "int32": 3, "int64": 1 << 40, "float": 0.25}
SAMPLES |= {"list<item: string>": ["a", "б"], "timestamp[us, tz=UTC]": 1_666_000_000_123_456}


@pytest.mark.parametrize("schema", [EVENTS, VIDEOS, USERS, QUARANTINE], ids=lambda schema: schema.names[0])
def test_the_contracts_come_back_as_they_were(lake: Lake, schema: pa.Schema) -> None:
    full = [SAMPLES[str(field.type).replace("element", "item")] for field in schema]
    columns = [
        pa.array([value, None if field.nullable else value], field.type)
        for value, field in zip(full, schema, strict=True)
    ]
    table = pa.table(columns, schema=schema)
    lake.append("t", table)
    assert lake.read("t").schema.names == schema.names
    assert lake.read("t").cast(schema).equals(table)


def test_versions_count_up_and_old_ones_stay_readable(lake: Lake) -> None:
    assert (lake.version("t"), lake.tables()) == (-1, [])
    assert lake.append("t", rows("a")) == 0
    assert lake.append("t", rows("b")) == 1
    assert lake.overwrite("t", rows("c")) == 2
    assert content(lake) == [("c", 0, "2026-11-01")]
    assert content(lake, version=1) == [("a", 0, "2026-11-01"), ("b", 0, "2026-11-01")]
    assert lake.tables() == ["t"]
    with pytest.raises(MissingData, match="no version 9: its newest is 2"):
        lake.read("t", version=9)


def test_batches_are_streamed_in(lake: Lake) -> None:
    batches = [batch for key in "abc" for batch in rows(key).to_batches()]
    lake.append("t", pa.RecordBatchReader.from_batches(rows().schema, iter(batches)), ["date"])
    assert [row[0] for row in content(lake)] == ["a", "b", "c"]


def test_overwrite_of_one_partition_leaves_the_others(lake: Lake) -> None:
    lake.append("t", rows("a", date="d1"), ["date"])
    lake.append("t", rows("b", date="d2"), ["date"])
    lake.overwrite("t", rows("c", "d", date="d2"), ["date"], where="date = 'd2'")
    assert content(lake) == [("a", 0, "d1"), ("c", 0, "d2"), ("d", 0, "d2")]


def test_overwrite_of_a_partition_makes_the_table_when_there_is_none(lake: Lake) -> None:
    assert lake.overwrite("t", rows("a", date="d1"), ["date"], where="date = 'd1'") == 0
    assert content(lake) == [("a", 0, "d1")]


def test_a_new_column_is_added_and_null_in_older_rows(lake: Lake) -> None:
    more = rows("b").append_column("extra", pa.array([1.5]))
    lake.append("t", rows("a"))
    lake.append("t", more)
    assert lake.merge("t", more.set_column(0, "key", pa.array(["c"])), ["key"], update=False) == (1, 0)
    found = lake.read("t", ["key", "extra"]).sort_by("key").to_pylist()
    assert [row["extra"] for row in found] == [None, 1.5, 1.5]


@pytest.mark.parametrize("on", [["key"], ["key", "date"]])
def test_merge_inserts_what_is_new(lake: Lake, on: list[str]) -> None:
    assert lake.merge("t", rows("a", "b", n=1), on, update=False, partition_by=["date"]) == (2, 0)
    assert lake.merge("t", rows("b", "c", n=2), on, update=False) == (1, 0)
    assert [row[:2] for row in content(lake)] == [("a", 1), ("b", 1), ("c", 2)]


@pytest.mark.parametrize("on", [["key"], ["key", "date"]])
def test_merge_with_update_replaces_the_others(lake: Lake, on: list[str]) -> None:
    lake.merge("t", rows("a", "b", n=1), on, update=True, partition_by=["date"])
    assert lake.merge("t", rows("b", "c", n=2), on, update=True) == (1, 1)
    assert [row[:2] for row in content(lake)] == [("a", 1), ("b", 2), ("c", 2)]


def test_rows_of_one_call_that_share_a_key(lake: Lake) -> None:
    twice = pa.concat_tables([rows("a", n=1), rows("b", n=5), rows("a", n=2)])
    lake.merge("first", twice, ["key"], update=False)
    lake.merge("last", twice, ["key"], update=True)
    lake.merge("last", twice.set_column(1, "n", pc.add(twice["n"], 10)), ["key"], update=True)
    assert [row[:2] for row in content(lake, "first")] == [("a", 1), ("b", 5)]
    assert [row[:2] for row in content(lake, "last")] == [("a", 12), ("b", 15)]


def test_a_merge_repeated_changes_nothing(lake: Lake) -> None:
    for _ in range(2):
        lake.merge("t", rows("it's", "b", date="it's"), ["key", "date"], update=False, partition_by=["date"])
    assert lake.version("t") == 0
    assert len(content(lake)) == 2


def test_nothing_to_merge(lake: Lake) -> None:
    assert lake.merge("t", rows(), ["key"], update=True, partition_by=["date"]) == (0, 0)
    assert content(lake) == []
    assert lake.merge("t", rows(), ["key"], update=True) == (0, 0)


def test_a_key_that_is_missing_or_null_is_refused(lake: Lake) -> None:
    with pytest.raises(MissingData, match="'request'"):
        lake.merge("t", rows("a"), ["request"], update=False)
    with pytest.raises(CorruptData, match=r"1 rows .* 'key'"):
        lake.merge("t", rows("a", None), ["key"], update=False)  # type: ignore[arg-type]
    assert lake.version("t") == -1


def test_partitions_are_listed_in_order_while_they_hold_rows(lake: Lake) -> None:
    assert lake.partitions("t", "date") == []
    for date in ("d2", "it's 100%", "a/b", "d1", "d2"):
        lake.append("t", rows("a", "b", date=date), ["date"])
    assert lake.partitions("t", "date") == ["a/b", "d1", "d2", "it's 100%"]
    lake.delete("t", "date = 'd1'")
    lake.delete("t", "date = 'a/b' AND key = 'a'")
    lake.delete("t", "date = 'd2' AND key IN ('a', 'b')")  # row by row, not as a partition
    assert lake.partitions("t", "date") == ["a/b", "it's 100%"]
    with pytest.raises(MissingData, match="'t' is not partitioned by 'key', but by date"):
        lake.partitions("t", "key")


def test_a_table_of_no_rows_has_no_partitions(lake: Lake) -> None:
    lake.append("t", rows(), ["date"])
    assert lake.partitions("t", "date") == []
    lake.append("whole", rows("a"))
    with pytest.raises(MissingData, match="by nothing"):
        lake.partitions("whole", "date")


def test_delete(lake: Lake) -> None:
    lake.append("t", rows("a", "b", date="d1"), ["date"])
    lake.append("t", rows("a", "c", date="d2"), ["date"])
    assert lake.delete("t", "key = 'a'") == 2
    assert lake.delete("t", "date = 'd1'") == 1
    assert lake.delete("t", "key = 'nobody'") == 0
    assert content(lake) == [("c", 0, "d2")]


def test_vacuum_removes_what_a_deletion_left_behind(lake: Lake) -> None:
    lake.append("t", rows("a"))
    lake.append("t", rows("b"))
    lake.delete("t", "key = 'a'")
    assert lake.read("t", version=1).num_rows == 2, "an old version is kept until then"
    lake.vacuum("t", timedelta(days=7))
    assert lake.read("t", version=1).num_rows == 2
    lake.vacuum("t", timedelta(0))
    lake.vacuum("t", timedelta(0))
    assert content(lake) == [("b", 0, "2026-11-01")]
    with pytest.raises(CorruptData):
        lake.read("t", version=1)


def test_scan_is_lazy_and_takes_filters(lake: Lake) -> None:
    lake.append("t", rows("a", date="d1"), ["date"])
    lake.append("t", rows("b", date="d2"), ["date"])
    found = lake.scan("t").to_table(columns=["key"], filter=pc.field("date") == "d2")
    assert found["key"].to_pylist() == ["b"]
    assert lake.scan("t", version=0).count_rows() == 1


def test_what_is_not_there_is_named(lake: Lake) -> None:
    changes = (lambda table: lake.delete(table, "key = 'a'"), lambda table: lake.vacuum(table, timedelta(0)))
    for ask in (lake.read, lake.scan, *changes):
        with pytest.raises(MissingData, match=r"there is no table at .*nothing"):
            ask("nothing")
    lake.append("t", rows("a"))
    with pytest.raises(MissingData, match="'colour'; there are key, n, date"):
        lake.read("t", ["key", "colour"])


def test_a_name_that_would_leave_the_lake_is_refused(lake: Lake) -> None:
    for name in ("../t", "", "a/b", ".hidden"):
        with pytest.raises(ConfigError, match="no name for a table"):
            lake.append(name, rows("a"))


def test_uri_is_where_other_tools_find_the_table(lake: Lake) -> None:
    from deltalake import DeltaTable

    lake.append("t", rows("a"))
    assert DeltaTable(lake.uri("t")).to_pyarrow_table()["key"].to_pylist() == ["a"]


def test_all_is_there_after_closing(site: Any, lake: Lake) -> None:
    lake.append("t", rows("a"))
    site.close()
    assert [row[0] for row in content(site.open())] == ["a"]


def test_a_read_only_folder_can_be_read_and_writing_is_told(
    site: Any, lake: Lake, seal: Callable[[], None]
) -> None:
    lake.append("t", rows("a"))
    seal()
    assert [row[0] for row in content(lake)] == ["a"]
    for write in (lake.append, lake.overwrite, lambda t, r: lake.merge(t, r, ["key"], update=False)):
        for table in ("t", "new"):
            with pytest.raises(StoreReadOnly, match=f"{site.settings.home}.*UPNEXT_HOME"):
                write(table, rows("b"))
    with pytest.raises(StoreReadOnly):
        lake.delete("t", "key = 'a'")


def test_ping_says_something(lake: Lake) -> None:
    assert lake.ping()

"""What is Delta's own: files that are damaged, partitions that a merge leaves alone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from upnext.errors import CorruptData
from upnext.stores.delta_lake import DeltaLake, _merge_predicate


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(str(tmp_path), tmp_path)
    for day in ("d1", "it's 100%"):
        lake.append("events", rows("a", "b", day=day), ["date"])
    return lake


def rows(*keys: str, day: str) -> pa.Table:
    return pa.table({"key": list(keys), "date": [day] * len(keys)})


def files(lake: DeltaLake, day: str) -> list[Path]:
    return list(Path(lake.uri("events")).glob(f"date={day}/*.parquet"))


READERS: list[Callable[[DeltaLake], Any]] = [
    lambda lake: lake.read("events"),
    lambda lake: lake.scan("events"),
    lambda lake: lake.merge("events", rows("a", day="d1"), ["key", "date"], update=False),
    lambda lake: lake.delete("events", "key = 'a'"),
]


@pytest.mark.parametrize("use", READERS, ids=["read", "scan", "merge", "delete"])
def test_a_truncated_file_is_named(lake: DeltaLake, use: Callable[[DeltaLake], Any]) -> None:
    (file,) = files(lake, "d1")
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(CorruptData, match=file.name):
        use(lake)


@pytest.mark.parametrize("use", READERS[:2], ids=["read", "scan"])
def test_a_file_that_is_gone_is_named(lake: DeltaLake, use: Callable[[DeltaLake], Any]) -> None:
    (file,) = files(lake, "d1")
    file.unlink()
    with pytest.raises(CorruptData, match=file.name):
        use(lake)


def test_a_file_of_the_right_length_and_the_wrong_content_is_named(lake: DeltaLake) -> None:
    (file,) = files(lake, "d1")
    file.write_bytes(b"?" * file.stat().st_size)
    with pytest.raises(CorruptData, match=file.name):
        lake.read("events")


def test_a_merge_reads_only_the_partitions_that_its_rows_touch(lake: DeltaLake) -> None:
    (file,) = files(lake, "d1")
    file.write_bytes(b"unreadable")
    assert lake.merge("events", rows("b", "c", day="it's 100%"), ["key", "date"], update=True) == (1, 1)


def test_the_partitions_touched_become_literals() -> None:
    data = pa.table({"key": ["a", "b", "c"], "date": ["d1", "it's", "d1"]})
    assert _merge_predicate(data, ["key", "date"], ["date"]) == (
        't."key" = s."key" AND t."date" = s."date" AND t."date" IN (\'d1\', \'it\'\'s\')'
    )

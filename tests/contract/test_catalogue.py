"""What every catalogue must do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from upnext.contracts import VIDEOS
from upnext.errors import CorruptData, MissingData, StoreReadOnly
from upnext.ports import Catalogue

PORT = "catalogue"


def videos(*ids: str, **fields: Any) -> pa.Table:
    return pa.Table.from_pylist([{"video_id": id_, **fields} for id_ in ids], schema=VIDEOS)


def names(table: pa.Table) -> list[str]:
    return table["video_id"].to_pylist()


@pytest.fixture
def catalogue(site: Any) -> Catalogue:
    return site.open()


def test_videos_come_back_whole(catalogue: Catalogue) -> None:
    rows = [
        {
            "video_id": "видео-🎬",
            "title": "猫の\n'quoted' \"title\"",
            "tags": ["кошки", "a,b"],
            "category": "pets",
            "creator_id": "c1",
            "duration_ms": 12_345_678_901,
            "uploaded_at": datetime(2022, 5, 8, 23, 59, 59, 999_999, UTC),
            "language": "ja",
            "region": "JP",
            "thumbnail_url": "https://example.org/1.jpg",
            "age_restricted": True,
            "status": "blocked",
        },
        {"video_id": "bare", "tags": []},
    ]
    table = pa.Table.from_pylist(rows, schema=VIDEOS)
    catalogue.put(table)
    assert catalogue.get(["видео-🎬", "bare"]) == table


def test_what_the_lake_brings_does_not_replace_what_was_told(catalogue: Catalogue) -> None:
    catalogue.bring(videos("a", "b", status="active"))
    catalogue.put(videos("a", status="blocked"))
    catalogue.bring(videos("a", "b", status="active", title="new"))
    found = catalogue.get(["a", "b"]).to_pylist()
    assert [(row["status"], row["title"]) for row in found] == [("blocked", None), ("active", "new")]


def test_barred_is_what_not_everybody_may_see(catalogue: Catalogue) -> None:
    catalogue.bring(videos("from the lake", age_restricted=True, status="active"))
    catalogue.bring(videos("blocked there", status="blocked"))
    catalogue.put(videos("told", age_restricted=True, status="active"))
    catalogue.put(videos("gone", status="deleted"))
    catalogue.put(videos("free", age_restricted=False, status="active"))
    catalogue.put(videos("bare"))
    barred = catalogue.barred()
    assert barred.column_names == ["video_id", "status", "age_restricted"]
    assert {row["video_id"]: row["status"] for row in barred.to_pylist()} == {
        "blocked there": "blocked",
        "told": "active",
        "gone": "deleted",
    }
    catalogue.put(videos("gone", "told", status="active"))
    assert names(catalogue.barred()) == ["blocked there"]


def test_told_is_what_was_put_lately_the_newest_last(catalogue: Catalogue) -> None:
    began = datetime.now(UTC)
    catalogue.put(videos("a", "b", title="first"))
    catalogue.bring(videos("from the lake", "b"))
    catalogue.put(videos("c"))
    between = catalogue.told(began, 10)["told_at"][-1].as_py()
    catalogue.put(videos("a", title="again"))
    found = catalogue.told(began, 10)
    assert found.column_names == [*VIDEOS.names, "told_at"]
    assert [(row["video_id"], row["title"]) for row in found.to_pylist()] == [
        ("b", "first"),
        ("c", None),
        ("a", "again"),
    ]
    assert found.select(VIDEOS.names) == catalogue.get(["b", "c", "a"])
    assert found["told_at"].to_pylist() == sorted(found["told_at"].to_pylist())
    assert began <= found["told_at"][0].as_py() <= datetime.now(UTC)
    assert names(catalogue.told(began, 2)) == names(catalogue.told(between, 10)) == ["c", "a"]
    assert catalogue.told(datetime.now(UTC), 10).num_rows == 0


def test_get_keeps_the_order_and_leaves_out_the_unknown(catalogue: Catalogue) -> None:
    catalogue.put(videos("a", "b", "c"))
    assert names(catalogue.get(["c", "nobody", "a", "c"])) == ["c", "a", "c"]


def test_put_replaces_the_whole_row_and_the_last_of_a_call_wins(catalogue: Catalogue) -> None:
    catalogue.put(videos("a", "b", title="old", tags=["t"]))
    catalogue.put(pa.concat_tables([videos("a", title="first"), videos("a", title="last")]))
    row = catalogue.get(["a"]).to_pylist()[0]
    assert (row["title"], row["tags"]) == ("last", None)
    assert catalogue.count() == 2


def test_more_ids_than_a_statement_takes(catalogue: Catalogue) -> None:
    ids = [f"v{number:05}" for number in range(40_000)]
    catalogue.put(videos(*ids))
    asked = ids[::-1]
    assert names(catalogue.get(asked)) == asked
    assert catalogue.count() == 40_000


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_scan_gives_every_video_once_ordered_by_the_bytes_of_its_id(catalogue: Catalogue, batch: int) -> None:
    ids = ["b", "Z", "a", "é", "aa"]
    catalogue.put(videos(*ids))
    tables = list(catalogue.scan(batch))
    assert all(0 < table.num_rows <= batch for table in tables)
    assert [name for table in tables for name in names(table)] == ["Z", "a", "aa", "b", "é"]


def test_an_empty_catalogue(catalogue: Catalogue) -> None:
    catalogue.put(VIDEOS.empty_table())
    assert catalogue.count() == 0
    assert list(catalogue.scan()) == []
    assert catalogue.get([]) == catalogue.get(["nobody"]) == VIDEOS.empty_table()


def test_a_wrong_table_is_refused_whole(catalogue: Catalogue) -> None:
    with pytest.raises(MissingData, match="videos have no column 'status'"):
        catalogue.put(videos("a").drop_columns(["status"]))
    with pytest.raises(CorruptData, match="do not fit their contract"):
        catalogue.put(videos("a").set_column(5, "duration_ms", pa.array(["x"])))
    with pytest.raises(CorruptData, match="video_id"):
        catalogue.put(videos("a", None))  # type: ignore[arg-type]
    assert catalogue.count() == 0


def test_many_threads(catalogue: Catalogue) -> None:
    def work(thread: int) -> list[str]:
        catalogue.put(videos(f"own-{thread}", "shared", title=str(thread)))
        return names(catalogue.get(["shared", f"own-{thread}"]))

    with ThreadPoolExecutor(8) as threads:
        assert all(found[0] == "shared" and len(found) == 2 for found in threads.map(work, range(24)))
    assert catalogue.count() == 25


def test_all_is_there_after_closing(site: Any, catalogue: Catalogue) -> None:
    catalogue.put(videos("a"))
    site.close()
    assert names(site.open().get(["a"])) == ["a"]


def test_a_read_only_store_is_told_with_its_place_and_a_remedy(
    site: Any, refuse_writes: Callable[[], str]
) -> None:
    site.open().put(videos("a"))
    site.close()
    named = refuse_writes()
    with pytest.raises(StoreReadOnly, match=named):
        site.open().put(videos("b"))


def test_ping_says_something(catalogue: Catalogue) -> None:
    assert catalogue.ping()
